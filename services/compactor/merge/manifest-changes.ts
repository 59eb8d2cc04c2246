// The changes that the compactor makes to a manifest: pure, because a lost compare-and-set makes them again from what stands then.
//
// Invariants
//   COMMIT-1  Sources go and results come in one change, and only while every source is listed as it was read (LOG-17).
//   COMMIT-2  Deletions that hold the sources hold the results: one that came meanwhile over some of the sources only refuses the change (DELETE-14).
//       Those that the results were written without are being removed, and hold all sources (DELETE-12).
//   COMMIT-3  A block that is retired is never listed again: its objects are about to go.
//   COMMIT-4  Downsampled data knows its raw blocks under their new names, when no sample of them is missing there.
import { ConflictError } from '../../../shared/base/errors.ts'
import { isFinal, mayMerge, withEnded, withReplaced } from '../../../shared/blocks/delete-rules.ts'
import { isLeftOut } from '../../../shared/blocks/left-out.ts'
import type { BlockEntry, Manifest, RetiredBlock } from '../../../shared/contracts/blocks.ts'
import { endingOf } from '../plan/plan.ts'

export interface Replacement {
  readonly sources: readonly BlockEntry[]
  readonly results: readonly BlockEntry[]
  /** Ids of the deletions that the results were written without. */
  readonly applied: readonly string[]
  readonly reason: RetiredBlock['reason']
  /** Whether every sample of the sources is in the results, or a greater one of its time. */
  readonly isComplete: boolean
  readonly nowMs: number
}

/** Undefined when it has been made already. Throws ConflictError `compaction-overtaken`. */
export function withReplacement(manifest: Manifest, replacement: Replacement): Manifest | undefined {
  const { sources, results, applied, reason, isComplete, nowMs } = replacement
  const listed = new Map(manifest.blocks.map((block) => [block.ulid, block]))
  const names = sources.map(({ ulid }) => ulid)
  const resultNames = results.map(({ ulid }) => ulid)
  const isMade = results.every(({ ulid }) => listed.has(ulid)) && names.every((ulid) => !listed.has(ulid))
  if (isMade) return undefined
  for (const { ulid, metaSha256 } of sources) {
    if (listed.get(ulid)?.metaSha256 !== metaSha256 && !isLeftOut('commit'))
      throw overtaken(`block ${ulid} is not listed any more`) // COMMIT-1
  }
  if (manifest.retired.some(({ ulid }) => resultNames.includes(ulid))) throw overtaken('a result is retired') // COMMIT-3
  const others = manifest.deletes.filter(({ id }) => !applied.includes(id))
  if (!mayMerge(others, names)) throw overtaken('a deletion came over some of the sources') // COMMIT-2
  for (const id of applied) {
    const entry = manifest.deletes.find((each) => each.id === id)
    const holds = entry !== undefined && isFinal(entry) && names.every((ulid) => entry.blocks.includes(ulid))
    if (!holds && !isLeftOut('commit')) throw overtaken(`deletion ${id} is not what it was`)
  }
  const left = manifest.blocks.filter(({ ulid }) => !names.includes(ulid))
  return {
    ...manifest,
    blocks: [...left.map((block) => (isComplete ? renamed(block, names, resultNames) : block)), ...results],
    retired: [...manifest.retired, ...names.map((ulid) => ({ ulid, retiredAtMs: nowMs, reason }))],
    deletes: withReplaced(manifest.deletes, { sources: names, results: resultNames, applied }),
  }
}

/** COMMIT-4 */
function renamed(block: BlockEntry, names: readonly string[], results: readonly string[]): BlockEntry {
  const { rawUlids } = block
  if (rawUlids === undefined || !names.every((ulid) => rawUlids.includes(ulid))) return block
  return { ...block, rawUlids: [...rawUlids.filter((ulid) => !names.includes(ulid)), ...results].sort() }
}

export interface Downsampled {
  readonly sources: readonly BlockEntry[]
  readonly replaces: readonly BlockEntry[]
  readonly results: readonly BlockEntry[]
  readonly nowMs: number
}

/** New downsampled blocks beside their raw ones, in place of older ones. */
export function withDownsampled(
  manifest: Manifest,
  { sources, replaces, results, nowMs }: Downsampled,
): Manifest | undefined {
  const listed = new Set(manifest.blocks.map(({ ulid }) => ulid))
  if (results.every(({ ulid }) => listed.has(ulid))) return undefined
  const gone = sources.find(({ ulid }) => !listed.has(ulid))
  if (gone !== undefined) throw overtaken(`block ${gone.ulid} is not listed any more`)
  if (!sources.every(({ ulid }) => mayMerge(manifest.deletes, [ulid, ...results.map((each) => each.ulid)])))
    throw overtaken('a deletion came over a raw block')
  const old = replaces.map(({ ulid }) => ulid).filter((ulid) => listed.has(ulid))
  return {
    ...manifest,
    blocks: [...manifest.blocks.filter(({ ulid }) => !old.includes(ulid)), ...results],
    retired: [...manifest.retired, ...old.map((ulid) => ({ ulid, retiredAtMs: nowMs, reason: 'compacted' as const }))],
    deletes: withReplaced(manifest.deletes, { sources: old, results: [] }),
  }
}

/** Blocks that hold nothing any more, or that are too old or too many. */
export function withDropped(manifest: Manifest, ulids: readonly string[], nowMs: number): Manifest | undefined {
  const gone = manifest.blocks.filter(({ ulid }) => ulids.includes(ulid)).map(({ ulid }) => ulid)
  if (gone.length === 0) return undefined
  return {
    ...manifest,
    blocks: manifest.blocks.filter(({ ulid }) => !gone.includes(ulid)),
    retired: [...manifest.retired, ...gone.map((ulid) => ({ ulid, retiredAtMs: nowMs, reason: 'retention' as const }))],
    deletes: withReplaced(manifest.deletes, { sources: gone, results: [] }),
  }
}

/** A block that holds nothing of what deletions and rules would remove: they are done with it. */
export function withNothingToRemove(
  manifest: Manifest,
  { source, applied, rules }: { source: BlockEntry; applied: readonly string[]; rules: readonly string[] },
): Manifest | undefined {
  const at = manifest.blocks.findIndex(({ ulid }) => ulid === source.ulid)
  if (at < 0) return undefined
  const blocks = manifest.blocks.with(at, { ...manifest.blocks[at]!, ...(rules.length > 0 ? { rules } : {}) })
  const deletes = manifest.deletes.map((entry) => {
    if (!applied.includes(entry.id) || !isFinal(entry)) return entry
    return { ...entry, blocks: entry.blocks.filter((ulid) => ulid !== source.ulid) }
  })
  return { ...manifest, blocks, deletes }
}

/** What time and flushes have brought about for deletions; undefined where that is nothing. */
export function withSettled(manifest: Manifest, ending: Omit<Parameters<typeof endingOf>[0], 'manifest'>) {
  const next = withEnded(manifest, endingOf({ ...ending, manifest }))
  return next === manifest ? undefined : next
}

/** Files that nobody lists are about to be deleted: those that are not listed by now. Always a change, so that what was made from an older
 *  version is refused. */
export function withGarbage(manifest: Manifest, ulids: readonly string[], nowMs: number): Manifest {
  const known = new Set([...manifest.blocks, ...manifest.retired].map(({ ulid }) => ulid))
  const garbage = ulids.filter((ulid) => !known.has(ulid))
  const added = garbage.map((ulid) => ({ ulid, retiredAtMs: nowMs, reason: 'garbage' as const }))
  return { ...manifest, retired: [...manifest.retired, ...added] }
}

/** Retired blocks whose objects are gone. */
export function withoutRetired(manifest: Manifest, ulids: readonly string[]): Manifest | undefined {
  const left = manifest.retired.filter(({ ulid }) => !ulids.includes(ulid))
  if (left.length === manifest.retired.length) return undefined
  return { ...manifest, retired: left, sweptAt: manifest.version + 1 } // MANIFEST-5: the version that this becomes
}

function overtaken(text: string): ConflictError {
  return new ConflictError('compaction-overtaken', text)
}
