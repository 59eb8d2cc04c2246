// Blocks that lie.
import { IndexBuilder } from '../../shared/tsdb/block/index-builder.ts'
import { writeBlock } from '../services/compactor/merge-ground.ts'
import {
  DAY,
  listedBlocks,
  named,
  outcome,
  type Sent,
  send,
  sendable,
  seriesOf,
  someBlock,
} from '../services/upload-ground.ts'
import type { Attack } from './run-attack.ts'

const TENANT = 'mallory'

function lie(name: string, make: () => Promise<Sent>): Attack {
  return {
    name: `block: ${name}`,
    async run({ url }) {
      const block = await make()
      const started = await send(url, block, TENANT)
      if (started.status === 200) {
        const { json } = await outcome(url, block.ulid, TENANT)
        if (json.result !== 'failed') return `became ${json.result}`
      } else if (started.status >= 500) return `answered ${started.status}`
      return (await listedBlocks(url, TENANT)).length === 0 ? undefined : 'is listed'
    },
  }
}

const changed = async (file: string, change: (bytes: Uint8Array) => Uint8Array): Promise<Sent> => {
  const block = await someBlock([named('a', ['changed', file])])
  return sendable({ ...block, files: new Map(block.files).set(file, change(block.files.get(file)!)) })
}

/** Many series that name one chunk. */
async function bomb(): Promise<Sent> {
  const names = Array.from({ length: 2_000 }, (_, i) => named('bomb', ['i', String(i).padStart(5, '0')]))
  const { meta, files } = await writeBlock(seriesOf(names, { count: 1 }))
  const index = new IndexBuilder()
  for (const labels of names) {
    index.addSeries(labels, 1)
    index.addChunk(DAY, DAY, 8)
  }
  return sendable({ meta, files: new Map(files).set('index', index.finish()) })
}

export const blockAttacks: readonly Attack[] = [
  lie('many series of one chunk', bomb),
  lie('a flipped bit in a chunk', () =>
    changed('chunks/000001', (bytes) => bytes.map((byte, i) => (i === 40 ? byte ^ 16 : byte))),
  ),
  lie('a flipped bit in the index', () =>
    changed('index', (bytes) => bytes.map((byte, i) => (i === 30 ? byte ^ 16 : byte))),
  ),
  lie('an index of zeros', () => changed('index', (bytes) => new Uint8Array(bytes.length))),
  lie('counts of meta.json', async () =>
    sendable(await someBlock([named('a', ['lies', 'counts'])]), (meta) => ({
      ...meta,
      stats: { ...(meta['stats'] as object), numSamples: 7 },
    })),
  ),
]
