// `carillon blocks download`: the blocks of a tenant as a Prometheus data directory.
//
// A block is written beside its place, compared with the SHA-256 of every file, and moved there whole. What stands there already is kept, so a
// download that broke off goes on. At the end the folder holds the blocks of one version of the manifest: when compaction replaces some
// meanwhile, the list is read again; what an earlier download put there and is not listed any more goes, for it may hold what was deleted since.
// Samples that a deletion hides are hidden by tombstones.
import { createHash } from 'node:crypto'
import fs from 'node:fs/promises'
import path from 'node:path'
import { hidersOf } from '../../shared/blocks/delete-rules.ts'
import type { BlockEntry, DeleteEntry } from '../../shared/contracts/blocks.ts'
import { ULID_SHAPE } from '../../shared/model/ulid.ts'
import { META_FILE, TOMBSTONES_FILE } from '../../shared/tsdb/block/files.ts'
import { type BlockFile, type BlockMeta, metaBytes, parseMeta } from '../../shared/tsdb/block/meta.ts'
import { BlockReader } from '../../shared/tsdb/block/reader.ts'
import { readTombstones, type Tombstone, writeTombstones } from '../../shared/tsdb/block/tombstones.ts'
import { SetupError } from '../launcher/setup-error.ts'
import { folderFiles, hasFile } from './block-folders.ts'
import { type GatewayClient, GatewayError } from './gateway-client.ts'
import type { Progress } from './progress.ts'

export interface BlockList {
  readonly tenant: string
  readonly version: number
  readonly blocks: readonly BlockEntry[]
  /** Deletions that hide samples of some. */
  readonly deletes: readonly DeleteEntry[]
}

export interface DownloadReport {
  readonly tenant: string
  /** Of the manifest. */
  readonly version: number
  readonly blocks: readonly string[]
  readonly bytes: number
}

/** Says whose blocks a folder holds, and which of them are downloads. */
const NOTE_FILE = 'carillon-download.json'
const PIECE_BYTES = 8 * 1024 * 1024
/** Lists that are read because compaction was faster. */
const ROUNDS_MAX = 20

/** `ulids`: only these; empty: all. */
export async function downloadBlocks(
  client: GatewayClient,
  folder: string,
  ulids: readonly string[],
  progress: Progress,
): Promise<DownloadReport> {
  await fs.mkdir(folder, { recursive: true })
  let own: Set<string> | undefined
  for (let round = 0; round < ROUNDS_MAX; round++) {
    const list = await client.data<BlockList>('/api/v1/blocks')
    const wanted = wantedOf(list, ulids)
    own ??= await ownIn(folder, list.tenant)
    for (const { ulid } of wanted) own.add(ulid)
    await note(folder, list.tenant, own)
    const left = await fetchAll(client, folder, { list, wanted, progress })
    if (left.length > 0) continue
    if (ulids.length === 0) await prune(folder, own, wanted)
    await note(folder, list.tenant, own)
    await fs.mkdir(path.join(folder, 'wal'), { recursive: true }) // promtool looks for it
    const bytes = wanted.reduce((sum, block) => sum + block.bytes, 0)
    return { tenant: list.tenant, version: list.version, blocks: wanted.map(({ ulid }) => ulid), bytes }
  }
  throw new SetupError(1, 'blocks keep being replaced while they are downloaded: try again')
}

/** Throws SetupError when one of `ulids` is not listed. */
export function refuseMissing({ blocks, tenant }: BlockList, ulids: readonly string[]): void {
  const missing = ulids.filter((ulid) => blocks.every((block) => block.ulid !== ulid))
  if (missing.length > 0) throw new SetupError(1, `tenant "${tenant}" has no block ${missing.join(', ')}`)
}

/** What was made of samples only: windows are made of them again. */
function wantedOf(list: BlockList, ulids: readonly string[]): readonly BlockEntry[] {
  refuseMissing(list, ulids)
  return list.blocks.filter(({ ulid, resolutionMs }) => (ulids.length > 0 ? ulids.includes(ulid) : resolutionMs === 0))
}

interface Fetching {
  readonly list: BlockList
  readonly wanted: readonly BlockEntry[]
  readonly progress: Progress
}

/** Answers the blocks that are gone. */
async function fetchAll(
  client: GatewayClient,
  folder: string,
  { list, wanted, progress }: Fetching,
): Promise<readonly string[]> {
  const gone: string[] = []
  for (const [index, { ulid, bytes }] of wanted.entries()) {
    const title = `${index + 1} of ${wanted.length} ${ulid}`
    const target = path.join(folder, ulid)
    try {
      if (!(await isThere(target, ulid))) {
        progress.begin(title, bytes)
        await fetchBlock(client, target, ulid, progress)
        progress.end(`${title}: ${bytes} bytes`)
      }
    } catch (error) {
      if (!(error instanceof GatewayError && error.status === 404)) throw error
      gone.push(ulid)
      continue
    }
    await hide(target, hidersOf(list.deletes, ulid))
  }
  return gone
}

/** The blocks that downloads put there. Throws SetupError when they were those of another tenant. */
async function ownIn(folder: string, tenant: string): Promise<Set<string>> {
  const file = path.join(folder, NOTE_FILE)
  if (!(await hasFile(file))) return new Set()
  const noted = JSON.parse(await fs.readFile(file, 'utf8')) as { tenant?: unknown; blocks?: unknown }
  if (noted.tenant !== tenant || !Array.isArray(noted.blocks))
    throw new SetupError(2, `${folder} holds blocks of tenant "${String(noted.tenant)}": choose another folder`)
  return new Set(noted.blocks.filter((ulid): ulid is string => typeof ulid === 'string' && ULID_SHAPE.test(ulid)))
}

/** Last, so that what breaks off leaves too much rather than too little. */
async function prune(folder: string, own: Set<string>, wanted: readonly BlockEntry[]): Promise<void> {
  for (const ulid of own) {
    if (wanted.some((block) => block.ulid === ulid)) continue
    await fs.rm(path.join(folder, ulid), { recursive: true, force: true })
    own.delete(ulid)
  }
}

/** Written before the blocks are, so that none is forgotten. */
async function note(folder: string, tenant: string, own: ReadonlySet<string>): Promise<void> {
  await fs.writeFile(path.join(folder, NOTE_FILE), `${JSON.stringify({ v: 1, tenant, blocks: [...own].sort() })}\n`)
}

async function isThere(target: string, ulid: string): Promise<boolean> {
  if (!(await hasFile(path.join(target, META_FILE)))) return false
  const meta = parseMeta(await fs.readFile(path.join(target, META_FILE)))
  if (meta.ulid === ulid) return true
  throw new SetupError(1, `${target} holds block ${meta.ulid}: choose another folder`)
}

async function fetchBlock(client: GatewayClient, target: string, ulid: string, progress: Progress): Promise<void> {
  const beside = `${target}.tmp-for-creation` // Prometheus removes what is named so
  await fs.rm(beside, { recursive: true, force: true })
  await fs.mkdir(path.join(beside, 'chunks'), { recursive: true })
  const url = `/api/v1/blocks/${ulid}/files`
  const bytes = await client.bytes(`${url}/${META_FILE}`)
  const meta = parseMeta(bytes)
  if (meta.carillon === undefined) throw new SetupError(1, `meta.json of block ${ulid} lists no files`)
  for (const file of meta.carillon.files)
    await fetchFile(client, `${url}/${file.name}`, path.join(beside, file.name), file, progress)
  await fs.writeFile(path.join(beside, META_FILE), bytes)
  await fs.rename(beside, target)
}

async function fetchFile(
  client: GatewayClient,
  url: string,
  target: string,
  { name, size, sha256 }: BlockFile,
  progress: Progress,
): Promise<void> {
  const hash = createHash('sha256')
  const handle = await fs.open(target, 'w')
  try {
    for (let at = 0; at < size; at += PIECE_BYTES) {
      const end = Math.min(size, at + PIECE_BYTES)
      const piece = await client.bytes(url, { headers: { Range: `bytes=${at}-${end - 1}` } })
      if (piece.length !== end - at)
        throw new SetupError(1, `${name}: ${piece.length} bytes came where ${end - at} were asked for`)
      hash.update(piece)
      await handle.write(piece)
      progress.add(piece.length)
    }
    await handle.sync()
  } finally {
    await handle.close()
  }
  if (hash.digest('hex') !== sha256) throw new SetupError(1, `${name} came with another SHA-256 than meta.json has`)
}

/** Tombstones for what the deletions hide of a block; none without any. */
async function hide(target: string, deletes: readonly DeleteEntry[]): Promise<void> {
  const meta = parseMeta(await fs.readFile(path.join(target, META_FILE)))
  const stones = await stonesFor(target, meta, deletes)
  const { numTombstones, ...stats } = meta.stats
  if (stones.length === 0 && numTombstones === undefined) return
  const bytes = writeTombstones(stones)
  const count = readTombstones(bytes).length
  await replaceFile(path.join(target, TOMBSTONES_FILE), bytes)
  const next: BlockMeta = { ...meta, stats: count > 0 ? { ...stats, numTombstones: count } : stats }
  await replaceFile(path.join(target, META_FILE), metaBytes(next))
}

async function stonesFor(target: string, meta: BlockMeta, deletes: readonly DeleteEntry[]): Promise<Tombstone[]> {
  const stones: Tombstone[] = []
  if (deletes.length === 0) return stones
  const reader = await BlockReader.open(folderFiles(target), meta)
  for (const { kind, selectors, ...range } of deletes) {
    const startMs = Math.max(range.startMs, meta.minTime)
    const endMs = Math.min(range.endMs, meta.maxTime - 1)
    for (const matchers of kind === 'tenant' ? [[]] : selectors) {
      for await (const batch of reader.series(matchers, { startMs, endMs }))
        for (const { ref } of batch) stones.push({ ref, startMs, endMs })
    }
  }
  return stones
}

/** Never in place: copies may be hard links. */
async function replaceFile(file: string, bytes: Uint8Array): Promise<void> {
  await fs.writeFile(`${file}.tmp`, bytes)
  await fs.rename(`${file}.tmp`, file)
}
