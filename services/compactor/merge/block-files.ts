// Names and descriptions of the blocks that compaction writes.
//
// A block's name must be known when its first file is stored, long before its content is. So it is made of what decides the content: the
// sources and the job; and of the fence, so that what a former holder of the lease left half done is never taken for one's own.
import { entryOf } from '../../../shared/blocks/entry.ts'
import type { BlockEntry } from '../../../shared/contracts/blocks.ts'
import { type BlockMeta, blockMeta, blockUlid, metaBytes, type NewBlock } from '../../../shared/tsdb/block/meta.ts'
import { sha256Of } from '../../../shared/wire/sha256.ts'
import type { MergeJob, MergeOutput, OutputName } from '../worker/merge-job.ts'

export interface Naming {
  readonly tenant: string
  readonly fence: number
  readonly level: number
  readonly job: MergeJob
}

export function nameOf({ tenant, fence, level, job }: Naming, output: OutputName): string {
  const { sources, removals, keeps, resolutionMs } = job
  const told = JSON.stringify([sources.map(({ ulid }) => ulid).sort(), removals, keeps, resolutionMs, output, fence])
  const minTime = Math.min(...sources.map(({ meta }) => meta.minTime))
  const sha256 = sha256Of(told)
  return blockUlid({
    tenant,
    minTime,
    origin: { kind: 'compaction', level },
    files: [{ name: 'sources', size: 0, sha256 }],
  })
}

/** meta.json of a finished output, and its entry for the manifest. */
export function describe(
  naming: Naming,
  { name, stats }: MergeOutput,
  entries: readonly BlockEntry[],
  rules: readonly string[],
): { entry: BlockEntry; meta: BlockMeta; bytes: Uint8Array<ArrayBuffer> } {
  const { tenant, level, job } = naming
  const ulid = nameOf(naming, name)
  const origin: NewBlock['origin'] =
    name === 'raw' ? { kind: 'compaction', level } : { kind: 'compaction', level, aggregate: name }
  const resolutionMs = job.resolutionMs || entries[0]!.resolutionMs
  const described = blockMeta({
    tenant,
    stats,
    origin,
    level: level + 1,
    sources: [...new Set(job.sources.flatMap(({ ulid: own, meta }) => meta.compaction.sources ?? [own]))],
    parents: job.sources.map(({ meta }) => ({ ulid: meta.ulid, minTime: meta.minTime, maxTime: meta.maxTime })),
    resolutionMs,
  })
  const meta: BlockMeta = { ...described, ulid }
  const bytes = metaBytes(meta)
  const gaps = [...new Set(entries.flatMap((entry) => entry.gaps ?? []))].sort()
  const rawUlids = entries.map((entry) => entry.ulid).sort()
  const entry: BlockEntry = {
    ...entryOf({ ulid, origin: { kind: 'compaction', level }, stats, metaBytes: bytes, resolutionMs }),
    ...(name === 'raw' ? keptOf(entries[0]!) : { aggregate: name, rawUlids }),
    ...(gaps.length > 0 ? { gaps } : {}),
    ...(rules.length > 0 ? { rules } : {}),
  }
  return { entry, meta, bytes }
}

/** What a downsampled block that is rewritten keeps of itself. */
function keptOf({ aggregate, rawUlids }: BlockEntry): Pick<BlockEntry, 'aggregate' | 'rawUlids'> {
  return {
    ...(aggregate === undefined ? {} : { aggregate }),
    ...(rawUlids === undefined ? {} : { rawUlids }),
  }
}
