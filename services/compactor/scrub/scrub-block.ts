// One listed block: read, all of it; compared with the second store; made right where something sound is left of it.
//
// Invariants
//   SCRUB-1  A file is deleted only when the right bytes are in hand, by meta.json's SHA-256 or, for meta.json, by the manifest's; what was made
//       anew is read again, all of it.
//   SCRUB-2  What cannot be made right stays as it is: whoever reads it is told.
import { CarillonError } from '../../../shared/base/errors.ts'
import { type BlockEntry, blockPrefix } from '../../../shared/contracts/blocks.ts'
import type { RebuildReply, RebuildRequest, ScrubFinding } from '../../../shared/contracts/scrubbing.ts'
import { encodeTenant } from '../../../shared/model/tenant.ts'
import type { ObjectStore } from '../../../shared/objects/port.ts'
import type { Log } from '../../../shared/telemetry/log.ts'
import { type BlockFiles, META_FILE } from '../../../shared/tsdb/block/files.ts'
import { type BlockFile, type BlockMeta, parseMeta } from '../../../shared/tsdb/block/meta.ts'
import { type BlockProblem, verifyBlock } from '../../../shared/tsdb/block/verify.ts'
import { sha256Of } from '../../../shared/wire/sha256.ts'
import { filesIn, type Pace, type PacedReads, soundFile } from './scrub-files.ts'

export interface BlockScrubDeps {
  readonly objects: ObjectStore
  readonly second: ObjectStore | undefined
  readonly pace: Pace
  readonly log: Log
  /** Ingesters that may still hold the segment of a flushed block, asked one after the other. */
  readonly owners: () => readonly string[]
  readonly rebuild: (owner: string, asked: RebuildRequest) => Promise<RebuildReply>
  readonly count: (store: 'first' | 'second', bytes: number) => void
  /** Whether the newest manifest still lists it. */
  readonly isListed: (tenant: string, ulid: string) => Promise<boolean>
}

const WRITE_TIMEOUT_MS = 60_000
/** Problems of one block that are told one by one. */
const PROBLEMS_MAX = 20

interface Scrubbed {
  readonly tenant: string
  readonly entry: BlockEntry
  readonly first: PacedReads
  readonly second: PacedReads | undefined
  readonly deps: BlockScrubDeps
  readonly signal: AbortSignal
}

/** Rejects when a store does not answer. */
export async function scrubBlock(
  tenant: string,
  entry: BlockEntry,
  deps: BlockScrubDeps,
  signal: AbortSignal,
): Promise<ScrubFinding[]> {
  const reads = (store: ObjectStore, which: 'first' | 'second'): PacedReads => {
    return { store, pace: deps.pace, signal, count: (bytes) => deps.count(which, bytes) }
  }
  const second = deps.second && reads(deps.second, 'second')
  const scrubbed: Scrubbed = { tenant, entry, first: reads(deps.objects, 'first'), second, deps, signal }
  const problems = await problemsOf(scrubbed)
  if (problems.length > 0 && !(await deps.isListed(tenant, entry.ulid))) return [] // replaced while it was read
  if (problems.length === 0) return compareSecond(scrubbed)
  for (const { file, offset, text } of problems)
    deps.log.error({ tenant, ulid: entry.ulid, file, offset }, `a block is damaged: ${text}`)
  const from = await repair(scrubbed)
  const left = from.length === 0 ? problems : await problemsOf(scrubbed)
  const state = left.length === 0 ? 'repaired' : 'damaged'
  return problems.map((problem) => {
    return { ...findingOf(entry.ulid, problem, state), ...(state === 'repaired' ? { from: from.join(', ') } : {}) }
  })
}

async function problemsOf({ tenant, entry, first, signal }: Scrubbed): Promise<BlockProblem[]> {
  const { ulid, metaSha256 } = entry
  const files = filesIn(first, tenant, ulid)
  const problems: BlockProblem[] = []
  for await (const problem of verifyBlock(files, { metaSha256, signal })) {
    const isTold = problems.some(({ file, text }) => file === problem.file && text === problem.text) // met again on another read of the same part
    if (!isTold && problems.length < PROBLEMS_MAX) problems.push(problem)
  }
  const meta = await soundMeta(files, metaSha256)
  const { numSamples = 0, numSeries = 0, numChunks = 0 } = meta?.stats ?? {}
  const isListedAs =
    meta === undefined ||
    (meta.ulid === ulid &&
      [meta.minTime, meta.maxTime, numSamples, numSeries, numChunks].join() ===
        [entry.minTime, entry.maxTime, entry.sampleCount, entry.seriesCount, entry.chunkCount].join())
  if (!isListedAs) problems.push({ file: META_FILE, offset: 0, text: 'says something else than the manifest' })
  return problems
}

function findingOf(ulid: string, { file, offset, text }: BlockProblem, state: ScrubFinding['state']): ScrubFinding {
  return { what: 'block', state, ulid, file, offset, text }
}

// ---- repair ----

/** Where right bytes came from; nothing when none were to be had. */
async function repair(scrubbed: Scrubbed, isSecondTry = false): Promise<string[]> {
  const { tenant, entry, first, second } = scrubbed
  const { ulid, metaSha256 } = entry
  const own = filesIn(first, tenant, ulid)
  const other = second && filesIn(second, tenant, ulid)
  const ownMeta = await soundMeta(own, metaSha256)
  const meta = ownMeta ?? (other && (await soundMeta(other, metaSha256)))
  if (meta === undefined) return isSecondTry ? [] : repairFromMeta(scrubbed)
  const from = new Set<string>()
  const lacking: string[] = []
  for (const name of await wrongFiles(own, meta, ownMeta !== undefined)) {
    const bytes = other && (await soundFile(other, name, isRightIn(meta, metaSha256, name)))
    if (bytes === undefined) lacking.push(name)
    else {
      await replace(first.store, scrubbed, name, bytes)
      from.add('the second store')
    }
  }
  const owner = lacking.length === 0 ? undefined : await fromOwner(scrubbed, lacking)
  if (owner !== undefined) from.add(owner)
  return [...from]
}

/** Which files there are, only an owner can tell: first meta.json, then what else is wrong by it. */
async function repairFromMeta(scrubbed: Scrubbed): Promise<string[]> {
  const owner = await fromOwner(scrubbed, [META_FILE])
  if (owner === undefined) return []
  return [...new Set([owner, ...(await repair(scrubbed, true))])]
}

async function wrongFiles(own: BlockFiles, meta: BlockMeta, isMetaSound: boolean): Promise<string[]> {
  const wrong = isMetaSound ? [] : [META_FILE]
  for (const file of meta.carillon?.files ?? []) {
    if ((await soundFile(own, file.name, isOf(file))) === undefined) wrong.push(file.name)
  }
  return wrong
}

/** SCRUB-1 */
async function replace(store: ObjectStore, { tenant, entry, deps, signal }: Scrubbed, name: string, bytes: Uint8Array) {
  const object = `${blockPrefix(encodeTenant(tenant), entry.ulid)}${name}`
  signal.throwIfAborted()
  await store.delete(object, { timeoutMs: WRITE_TIMEOUT_MS })
  await store.create(object, bytes, { timeoutMs: WRITE_TIMEOUT_MS, readBack: true }) // not to be left half done by a signal
  deps.log.warn({ tenant, ulid: entry.ulid, file: name }, 'a damaged file of a block was made again')
}

/** The owner that made these files anew. */
async function fromOwner({ tenant, entry, deps }: Scrubbed, files: readonly string[]): Promise<string | undefined> {
  const { origin, ulid, metaSha256 } = entry
  if (origin.kind !== 'flush') return undefined
  const { partition, segment } = origin
  for (const owner of deps.owners()) {
    try {
      const { outcome } = await deps.rebuild(owner, { tenant, partition, segment, ulid, metaSha256, files })
      if (outcome === 'stored') return owner
    } catch (error) {
      if (!(error instanceof CarillonError)) throw error
      deps.log.info({ tenant, ulid, owner, reason: error.message }, 'an ingester did not make a block again')
    }
  }
  return undefined
}

// ---- the second store ----

/** The first is sound here. What differs in the second is made as in the first. */
async function compareSecond(scrubbed: Scrubbed): Promise<ScrubFinding[]> {
  const { tenant, entry, first, second } = scrubbed
  if (second === undefined) return []
  const { ulid, metaSha256 } = entry
  const own = filesIn(first, tenant, ulid)
  const other = filesIn(second, tenant, ulid)
  const meta = await soundMeta(own, metaSha256)
  const findings: ScrubFinding[] = []
  for (const name of [...(meta?.carillon?.files ?? []).map((file) => file.name), META_FILE]) {
    if (await isAbsent(second.store, scrubbed, name)) continue // not copied yet: copies are counted by their own (second-store.ts)
    const isRight = isRightIn(meta!, metaSha256, name)
    if ((await soundFile(other, name, isRight)) !== undefined) continue
    const bytes = await soundFile(own, name, isRight)
    if (bytes !== undefined) await replace(second.store, scrubbed, name, bytes)
    const text = 'is damaged in the second store'
    const state = bytes === undefined ? 'damaged' : 'repaired'
    findings.push({ what: 'second', state, ulid, file: name, offset: 0, text, from: 'the first store' })
  }
  return findings
}

/** A damaged one is there. */
async function isAbsent(store: ObjectStore, { tenant, entry, signal }: Scrubbed, name: string): Promise<boolean> {
  try {
    const object = `${blockPrefix(encodeTenant(tenant), entry.ulid)}${name}`
    return (await store.info(object, { timeoutMs: WRITE_TIMEOUT_MS, signal })) === undefined
  } catch (error) {
    if (error instanceof CarillonError && error.kind === 'corrupt') return false
    throw error
  }
}

// ---- what is right ----

async function soundMeta(files: BlockFiles, metaSha256: string): Promise<BlockMeta | undefined> {
  const bytes = await soundFile(files, META_FILE, (found) => sha256Of(found) === metaSha256)
  return bytes && parseMeta(bytes)
}

function isOf(file: BlockFile): (bytes: Uint8Array) => boolean {
  return (bytes) => bytes.length === file.size && sha256Of(bytes) === file.sha256
}

function isRightIn(meta: BlockMeta, metaSha256: string, name: string): (bytes: Uint8Array) => boolean {
  if (name === META_FILE) return (bytes) => sha256Of(bytes) === metaSha256
  const listed = meta.carillon?.files.find((file) => file.name === name)
  return listed === undefined ? () => false : isOf(listed)
}
