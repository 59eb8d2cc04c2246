// BLOCK-1: the bytes of one small block, which no later version may change. `GOLDEN=write vitest run …` writes them anew.
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { expect, test } from 'vitest'
import { labelsFrom } from '../../../../shared/model/labels.ts'
import { STALE_HIGH, STALE_LOW } from '../../../../shared/model/sample.ts'
import { memoryFiles } from '../../../../shared/tsdb/block/files.ts'
import { parseMeta } from '../../../../shared/tsdb/block/meta.ts'
import { buildBlock, floatAt, histogram, readBlock, type Series } from './blocks.ts'

const golden = new URL('../../../golden/block/block.json', import.meta.url)

const SERIES: Series[] = [
  {
    labels: labelsFrom({ __name__: 'up', job: 'a' }),
    samples: Array.from({ length: 130 }, (_, k) => floatAt(1_700_000_000_000 + k * 15_000, k % 9 ? 1 : 0)),
  },
  {
    labels: labelsFrom({ __name__: 'up', job: 'größe' }),
    samples: [floatAt(1_700_000_000_000, -0.5), { time: 1_700_000_015_000, low: STALE_LOW, high: STALE_HIGH }],
  },
  {
    labels: labelsFrom({ __name__: 'latency' }),
    samples: [false, false, true].map((isFloat, k) => ({
      ...floatAt(1_700_000_000_000 + k, 0),
      histogram: histogram([k, 2], { isFloat }),
    })),
  },
]

test('the bytes of a block stay what they are', async () => {
  const block = await buildBlock(SERIES, 200)
  const files = Object.fromEntries(
    [...block.bytes].map(([name, bytes]) => [name, Buffer.from(bytes).toString('base64')]),
  )
  if (process.env['GOLDEN'] === 'write') {
    mkdirSync(new URL('.', golden), { recursive: true })
    writeFileSync(golden, `${JSON.stringify({ ulid: block.meta.ulid, files }, null, 2)}\n`)
  }
  const kept = JSON.parse(readFileSync(golden, 'utf8')) as { ulid: string; files: Record<string, string> }
  expect({ ulid: block.meta.ulid, files }).toEqual(kept)
  const bytes = new Map(
    Object.entries(kept.files).map(([name, text]) => [name, new Uint8Array(Buffer.from(text, 'base64'))]),
  )
  const meta = parseMeta(bytes.get('meta.json')!)
  const series = [SERIES[2]!, SERIES[0]!, SERIES[1]!]
  expect(await readBlock({ files: memoryFiles(bytes), meta })).toEqual(series)
})
