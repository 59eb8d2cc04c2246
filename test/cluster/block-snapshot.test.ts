// A real Prometheus server stores floats and native histograms; the block of its snapshot gives us the same samples, and reading it
// into a block of ours and back changes nothing.
import { spawn } from 'node:child_process'
import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { describe, expect, test } from 'vitest'
import type { Histogram } from '../../shared/model/histogram.ts'
import { labelsFrom } from '../../shared/model/labels.ts'
import { STALE } from '../../shared/model/sample.ts'
import { memoryFiles } from '../../shared/tsdb/block/files.ts'
import { parseMeta } from '../../shared/tsdb/block/meta.ts'
import { verifyBlock } from '../../shared/tsdb/block/verify.ts'
import { canonicalBytes } from '../../shared/tsdb/histogram-order.ts'
import { encodeWriteV1, type PlainSeries } from '../../shared/wire/remote-write-encode.ts'
import { compress } from '../../shared/wire/snappy.ts'
import { buildBlock, histogram, readBlock, type Series } from '../shared/tsdb/block/blocks.ts'
import { until } from '../waiting.ts'
import { findPrometheus } from './prometheus-process.ts'
import { endProcess, freePort } from './system.ts'

const found = findPrometheus()
if ('reason' in found) console.warn(`skipped: blocks of a real Prometheus: ${found.reason}`)

const START = Math.floor(Date.now() / 1000) * 1000 - 900_000
const COUNT = 300
const times = Array.from({ length: COUNT }, (_, k) => START + k * 1000)
const isReset = (k: number): boolean => k >= 170

/** Counts that rise, buckets that appear on the way, and one reset. */
function counterAt(k: number, isFloat: boolean): Histogram {
  const rise = isReset(k) ? k - 165 : k + 1
  const counts = k % 170 < 60 ? [rise, 2 * rise] : [rise, 2 * rise, rise, 3]
  return histogram(counts, {
    isFloat,
    zeroCount: rise,
    count: counts.reduce((a, b) => a + b, rise),
    sum: rise * (isFloat ? 1.25 : 2),
  })
}

const ALL: PlainSeries[] = [
  ...[false, true].map((isFloat) => ({
    labels: labelsFrom({ __name__: 'latency', kind: isFloat ? 'float' : 'whole' }),
    histograms: times.map((time, k) => ({ time, histogram: counterAt(k, isFloat) })),
  })),
  {
    labels: labelsFrom({ __name__: 'queue' }),
    histograms: times.map((time, k) => ({
      time,
      histogram: histogram([k % 7, 3, k % 5], { resetHint: 'gauge', offset: k % 2 }),
    })),
  },
  {
    labels: labelsFrom({ __name__: 'up', job: 'größe' }),
    samples: times.map((time, k) => ({ time, value: k % 50 === 49 ? STALE : Math.sqrt(k) })),
  },
]

// 2.x cannot cut a block from a histogram that was reset
const SENT = ALL.filter(({ samples }) => samples !== undefined || (!('reason' in found) && found.major >= 3))

async function snapshot(path: string): Promise<{ dir: string; remove: () => Promise<void> }> {
  const dir = mkdtempSync(join(tmpdir(), 'carillon-snapshot-'))
  const address = `127.0.0.1:${await freePort()}`
  writeFileSync(join(dir, 'prometheus.yml'), '{}')
  const flags = ['--web.enable-remote-write-receiver', '--web.enable-admin-api', '--enable-feature=native-histograms']
  const places = [
    `--config.file=${dir}/prometheus.yml`,
    `--storage.tsdb.path=${dir}/data`,
    `--web.listen-address=${address}`,
  ]
  const child = spawn(path, [...places, ...flags, '--log.level=error'], { stdio: 'ignore' })
  const remove = async (): Promise<void> => {
    await endProcess(child)
    rmSync(dir, { recursive: true, force: true })
  }
  try {
    await until('Prometheus is ready', async () => (await fetch(`http://${address}/-/ready`)).status === 200)
    const headers = {
      'content-encoding': 'snappy',
      'content-type': 'application/x-protobuf',
      'x-prometheus-remote-write-version': '0.1.0',
    }
    const body = Buffer.from(compress(encodeWriteV1({ series: SENT })))
    const answer = await fetch(`http://${address}/api/v1/write`, { method: 'POST', headers, body })
    expect([answer.status, await answer.text()]).toEqual([204, ''])
    const made = await fetch(`http://${address}/api/v1/admin/tsdb/snapshot`, { method: 'POST' })
    const { data, error } = (await made.json()) as { data?: { name: string }; error?: string }
    if (data === undefined) throw new Error(`no snapshot: ${error}`)
    return { dir: join(dir, 'data', 'snapshots', data.name), remove }
  } catch (error) {
    await remove()
    throw error
  }
}

/** Samples as texts, histograms without the layout that a chunk of Prometheus gave them: empty buckets come and go. */
function texts(series: readonly Series[]): Map<string, string[]> {
  const list = series.map(({ labels, samples }): [string, string[]] => [
    labels.join(),
    samples.map(
      ({ time, low, high, histogram: h }) => `${time} ${h === undefined ? `${high} ${low}` : histogramText(h)}`,
    ),
  ])
  return new Map(list.sort(([a], [b]) => (a < b ? -1 : 1)))
}

function histogramText({
  isFloat,
  count,
  sum,
  zeroCount,
  resetHint,
  positiveSpans,
  positiveBuckets,
}: Histogram): string {
  const filled: string[] = []
  let index = 0
  let at = 0
  for (const { offset, length } of positiveSpans) {
    index += offset
    for (let i = 0; i < length; i++, index++, at++)
      if (positiveBuckets[at] !== 0) filled.push(`${index}:${positiveBuckets[at]}`)
  }
  return [isFloat, count, sum, zeroCount, resetHint === 'gauge', ...filled].join(' ')
}

function sentSeries(): Series[] {
  return SENT.map(({ labels, samples = [], histograms = [] }) => ({
    labels,
    samples: [
      ...samples.map(({ time, value }) => {
        const column = value instanceof Float64Array ? value : Float64Array.of(value)
        const [low, high] = new Uint32Array(column.buffer)
        return { time, low: low!, high: high! }
      }),
      ...histograms.map(({ time, histogram: h }) => ({ time, low: 0, high: 0, histogram: h })),
    ],
  }))
}

describe.skipIf('reason' in found && process.env['CARILLON_CI'] !== '1')('the block of a real Prometheus', () => {
  test('holds for us what was sent there, and again in a block of ours', async () => {
    const { dir, remove } = await snapshot('reason' in found ? 'prometheus' : found.path)
    try {
      const bytes = new Map<string, Uint8Array>()
      const [ulid] = readdirSync(dir)
      for (const name of readdirSync(join(dir, ulid!), { recursive: true, encoding: 'utf8' })) {
        if (name !== 'chunks') bytes.set(name, new Uint8Array(readFileSync(join(dir, ulid!, name))))
      }
      const files = memoryFiles(bytes)
      const theirs = await readBlock({ files, meta: parseMeta(bytes.get('meta.json')!) })
      expect(texts(theirs)).toEqual(texts(sentSeries()))
      expect(await Array.fromAsync(verifyBlock(files))).toEqual([])
      const ours = await readBlock(await buildBlock(theirs))
      const exact = (series: readonly Series[]): unknown =>
        series.map((one) =>
          one.samples.map(({ time, low, high, histogram: h }) =>
            h === undefined ? [time, low, high] : [time, canonicalBytes(h)],
          ),
        )
      expect(exact(ours)).toEqual(exact(theirs))
    } finally {
      await remove()
    }
  })
})
