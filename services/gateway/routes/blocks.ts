// Blocks of a tenant over HTTP: which there are, and their files as they are. What is read here was checked by the store; whoever keeps a copy
// has the SHA-256 of every file in meta.json.
import { LRUCache } from 'lru-cache'
import { RefusedError } from '../../../shared/base/errors.ts'
import { hidersOf, isHiding } from '../../../shared/blocks/delete-rules.ts'
import type { StoredBlock } from '../../../shared/blocks/port.ts'
import { readManifest } from '../../../shared/blocks/read-manifest.ts'
import { openBlock } from '../../../shared/blocks/stored-blocks.ts'
import type { Bus } from '../../../shared/bus/port.ts'
import { BLOCKS_BUCKET, type BlockEntry, blockPrefix, type Manifest } from '../../../shared/contracts/blocks.ts'
import { UPLOAD_FILE_NAME } from '../../../shared/contracts/uploads.ts'
import { encodeTenant } from '../../../shared/model/tenant.ts'
import type { ObjectStore } from '../../../shared/objects/port.ts'
import { META_FILE } from '../../../shared/tsdb/block/files.ts'
import { type Answer, type Exchange, jsonAnswer, type Route } from '../http/exchange.ts'
import type { Load } from '../http/in-flight.ts'

export interface BlockDeps {
  readonly bus: Bus
  readonly objects: ObjectStore
  readonly load: Load
}

const READ_BYTES = 1024 * 1024
/** Blocks whose place is remembered while their files are read; one that is replaced meanwhile can be read to the end. */
const OPENED_MAX = 64
const INFO_TIMEOUT_MS = 20_000

export function blockRoutes({ bus, objects, load }: BlockDeps): readonly Route[] {
  const opened = new LRUCache<string, StoredBlock>({ max: OPENED_MAX })
  const common = { name: 'blocks', methods: ['GET'], access: 'read', isOpenToAdmin: true, errors: 'json' } as const
  const path = '/api/v1/blocks'
  return [
    { ...common, path, answer: list },
    { ...common, path: `${path}/{ulid}`, answer: inspect },
    { ...common, path: `${path}/{ulid}/files/{file}`, answer: (exchange) => file(exchange, exchange.params['file']!) },
    {
      ...{ ...common, path: `${path}/{ulid}/files/chunks/{chunk}` },
      answer: (exchange) => file(exchange, `chunks/${exchange.params['chunk']}`),
    },
  ]

  async function list({ tenant }: Exchange): Promise<Answer> {
    const manifest = await readManifest(await bus.bucket(BLOCKS_BUCKET), tenant)
    const blocks = [...(manifest?.blocks ?? [])].sort((a, b) => a.minTime - b.minTime || (a.ulid < b.ulid ? -1 : 1))
    const deletes = (manifest?.deletes ?? []).filter((entry) => isHiding(entry) && entry.blocks.length > 0)
    return jsonAnswer({ tenant, version: manifest?.version ?? 0, blocks, deletes })
  }

  async function inspect({ tenant, params, signal }: Exchange): Promise<Answer> {
    const { entry, manifest } = await find(tenant, params['ulid']!)
    const meta = await openBlock(objects, tenant, entry).meta(signal)
    return jsonAnswer({ block: entry, deletes: hidersOf(manifest.deletes, entry.ulid), meta })
  }

  async function file(exchange: Exchange, name: string): Promise<Answer> {
    const { tenant, params, signal, holdUntilAnswered } = exchange
    if (name !== META_FILE && !UPLOAD_FILE_NAME.test(name))
      throw notFound(`a block has no file "${name.slice(0, 100)}"`)
    const lease = load.enter(tenant)
    holdUntilAnswered(lease.end)
    const ulid = params['ulid']!
    const block = await openedOf(tenant, ulid)
    const size = name === META_FILE ? await metaSize(tenant, ulid) : await sizeOf(block, name, signal)
    const range = rangeOf(exchange, size)
    const { start, end } = range ?? { start: 0, end: size }
    const headers: Record<string, string> = { 'Content-Type': 'application/octet-stream', 'Accept-Ranges': 'bytes' }
    if (range !== undefined) headers['Content-Range'] = `bytes ${start}-${end - 1}/${size}`
    const firstEnd = Math.min(end, start + READ_BYTES)
    const first = await block.read(name, start, firstEnd, signal) // what fails at once is told as an error
    const chunks = pieces(block, name, { first, start: firstEnd, end }, signal)
    return { status: range === undefined ? 200 : 206, headers, stream: { length: end - start, chunks } }
  }

  async function openedOf(tenant: string, ulid: string): Promise<StoredBlock> {
    const key = `${tenant} ${ulid}`
    const known = opened.get(key)
    if (known !== undefined) return known
    const block = openBlock(objects, tenant, (await find(tenant, ulid)).entry)
    opened.set(key, block)
    return block
  }

  async function metaSize(tenant: string, ulid: string): Promise<number> {
    const name = `${blockPrefix(encodeTenant(tenant), ulid)}${META_FILE}`
    const info = await objects.info(name, { timeoutMs: INFO_TIMEOUT_MS })
    if (info === undefined) throw notFound(`block ${ulid} is not there any more`)
    return info.size
  }

  async function sizeOf(block: StoredBlock, name: string, signal: AbortSignal): Promise<number> {
    const { carillon } = await block.meta(signal)
    if (carillon?.files.every((one) => one.name !== name)) throw notFound(`block ${block.ulid} has no file "${name}"`)
    return block.size(name, signal)
  }

  async function find(tenant: string, ulid: string): Promise<{ entry: BlockEntry; manifest: Manifest }> {
    const manifest = await readManifest(await bus.bucket(BLOCKS_BUCKET), tenant)
    const entry = manifest?.blocks.find((block) => block.ulid === ulid)
    if (entry !== undefined) return { entry, manifest: manifest! }
    throw notFound(`tenant "${tenant}" has no block "${ulid.slice(0, 40)}"`)
  }
}

async function* pieces(
  block: StoredBlock,
  name: string,
  { first, start, end }: { first: Uint8Array; start: number; end: number },
  signal: AbortSignal,
): AsyncGenerator<Uint8Array> {
  yield first
  for (let at = start; at < end; at += READ_BYTES)
    yield await block.read(name, at, Math.min(end, at + READ_BYTES), signal)
}

/** One range as `Range: bytes=from-to` has it; undefined without one. */
function rangeOf({ request }: Exchange, size: number): { start: number; end: number } | undefined {
  const { range } = request.headers
  const match = range === undefined ? undefined : /^bytes=(\d{0,15})-(\d{0,15})$/.exec(range)
  if (match === undefined) return undefined
  const [from = '', to = ''] = match?.slice(1) ?? []
  const start = from === '' ? Math.max(0, size - Number(to)) : Number(from)
  const end = from === '' || to === '' ? size : Math.min(size, Number(to) + 1)
  if (match !== null && from + to !== '' && start < end) return { start, end }
  throw new RefusedError('err-carillon-range', `Range "${String(range).slice(0, 100)}" is not within ${size} bytes`, {
    status: 416,
  })
}

function notFound(text: string): RefusedError {
  return new RefusedError('err-carillon-not-found', text, { status: 404 })
}
