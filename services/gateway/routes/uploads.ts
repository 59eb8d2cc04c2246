// Blocks made elsewhere come in: start, files, finish, check, as Mimir has it. Files are staged in the object store, part by part; a compactor
// validates them (contracts/uploads.ts). Nothing of it is kept here.
import { LRUCache } from 'lru-cache'
import type { Clock } from '../../../shared/base/clock.ts'
import { ConflictError, RefusedError, textOf, UnavailableError } from '../../../shared/base/errors.ts'
import { hex, type Random } from '../../../shared/base/random.ts'
import { readManifest } from '../../../shared/blocks/read-manifest.ts'
import type { Bus, KvBucket } from '../../../shared/bus/port.ts'
import { BLOCKS_BUCKET } from '../../../shared/contracts/blocks.ts'
import {
  decodePlan,
  encodePlan,
  partName,
  planName,
  stagedFolder,
  UPLOAD_PART_BYTES,
  UPLOADS_BUCKET,
  type UploadFile,
  type UploadRecord,
  uploadKey,
  uploadRecord,
} from '../../../shared/contracts/uploads.ts'
import type { Told } from '../../../shared/kv/passed-over.ts'
import { readRecord, readRecords } from '../../../shared/kv/read-records.ts'
import { updateRecord } from '../../../shared/kv/update.ts'
import { readKeepMs } from '../../../shared/limits/keep.ts'
import { ULID_SHAPE } from '../../../shared/model/ulid.ts'
import type { ObjectStore } from '../../../shared/objects/port.ts'
import { readWhole } from '../../../shared/objects/read-whole.ts'
import { META_FILE } from '../../../shared/tsdb/block/files.ts'
import { sha256Of } from '../../../shared/wire/sha256.ts'
import type { GatewayConfig } from '../config.ts'
import { readBody } from '../http/body.ts'
import { readParts } from '../http/body-parts.ts'
import { type Answer, type Exchange, JSON_TYPE, type Route } from '../http/exchange.ts'
import type { Load } from '../http/in-flight.ts'
import { assertNotTooOld, META_BYTES_MAX, planOf } from './upload-plan.ts'

export interface UploadDeps extends Told {
  readonly bus: Bus
  readonly objects: ObjectStore
  readonly clock: Clock
  readonly random: Random
  readonly config: GatewayConfig
  readonly load: Load
}

const OBJECT_TIMEOUT_MS = 60_000
const NONCE_BYTES = 8
const BUCKET_TIMEOUT_MS = 10_000
/** How often the record of an upload under way says that it is. */
const TOUCH_MS = 10 * 60_000
/** Plans remembered; each is read again when it was forgotten. */
const PLANS_MAX = 16

/** What a caller is told of an upload. */
type Result = 'uploading' | 'validating' | 'complete' | 'failed'
const resultOf: Readonly<Record<UploadRecord['state'], Result>> = {
  uploading: 'uploading',
  waiting: 'validating',
  validating: 'validating',
  complete: 'complete',
  failed: 'failed',
}

interface Known {
  /** undefined: what stands there cannot be read. */
  readonly record: UploadRecord | undefined
  readonly revision: number
}

export function uploadRoutes(deps: UploadDeps): readonly Route[] {
  const { bus, objects, clock, random, config, load, log, metrics } = deps
  const plans = new LRUCache<string, ReadonlyMap<string, number>>({ max: PLANS_MAX })
  const path = '/api/v1/upload/block/{ulid}'
  const write = { name: 'upload', methods: ['POST'], access: 'write', errors: 'text' } as const
  return [
    { ...write, path: `${path}/start`, answer: loaded(start) },
    { ...write, path: `${path}/files`, answer: loaded(file) },
    { ...write, path: `${path}/finish`, answer: finish },
    { ...write, methods: ['GET'], path: `${path}/check`, answer: check },
  ]

  function loaded(answer: (exchange: Exchange) => Promise<Answer>): Route['answer'] {
    return async (exchange) => {
      const lease = load.enter(exchange.tenant)
      try {
        return await answer(exchange)
      } finally {
        lease.end()
      }
    }
  }

  async function start(exchange: Exchange): Promise<Answer> {
    const { tenant, signal } = exchange
    const ulid = ulidOf(exchange)
    const meta = await readBody(exchange, { bytesMax: META_BYTES_MAX })
    const files = planOf(ulid, meta, config.uploadBytesMax)
    assertNotTooOld(meta, clock.now() - (await readKeepMs(bus, tenant)))
    const metaSha256 = sha256Of(meta)
    const bytes = files.reduce((sum, { size }) => sum + size, 0)
    const bucket = await bus.bucket(UPLOADS_BUCKET)
    const known = await read(bucket, tenant, ulid)
    const replaces = new URLSearchParams(exchange.search).get('replace') === 'true'
    await assertNew(tenant, ulid, known?.record, replaces)
    if (known?.record !== undefined && isSame(known.record, metaSha256, replaces)) {
      await stage(known.record, files, meta, signal)
      return done(known.record) // goes on where it was
    }
    const nowMs = clock.now()
    const record: UploadRecord = {
      ...{ v: 1, tenant, ulid, nonce: hex(random.bytes(NONCE_BYTES)), metaSha256, bytes, replaces, state: 'uploading' },
      ...{ beganAtMs: nowMs, changedAtMs: nowMs, incarnation: '', beat: 0, attempt: 0, blocks: [] },
    }
    await assertFew(bucket, record)
    const revision = await put(bucket, record, known?.revision)
    await withdrawUnlessFew(bucket, record, revision)
    await stage(record, files, meta, signal)
    return done(record)
  }

  /** The plan is the last: files are taken when it is there. */
  async function stage(record: UploadRecord, files: readonly UploadFile[], meta: Uint8Array, signal: AbortSignal) {
    const folder = stagedFolder(record)
    for (let at = 0; at < meta.length; at += UPLOAD_PART_BYTES)
      await create(partName(folder, META_FILE, at), meta.subarray(at, at + UPLOAD_PART_BYTES), signal)
    await create(planName(folder), encodePlan(files), signal)
  }

  async function file(exchange: Exchange): Promise<Answer> {
    const { tenant, signal, search, request } = exchange
    const ulid = ulidOf(exchange)
    const bucket = await bus.bucket(UPLOADS_BUCKET)
    const record = await uploading(bucket, tenant, ulid)
    const asked = new URLSearchParams(search)
    const name = asked.get('path') ?? ''
    const size = (await planFor(record)).get(name)
    if (size === undefined || name === META_FILE) {
      const text = `"${name.slice(0, 100)}" is none of the files that meta.json named at the start`
      throw new RefusedError('err-carillon-upload-file', text)
    }
    const offset = asked.has('offset') ? Number(asked.get('offset')) : 0
    const length = Number(request.headers['content-length'] ?? Number.NaN)
    if (!Number.isSafeInteger(length))
      throw new RefusedError('err-carillon-upload-length', 'a file is sent with its Content-Length', { status: 411 })
    const isAligned = Number.isSafeInteger(offset) && offset >= 0 && offset % UPLOAD_PART_BYTES === 0
    const isWhole = offset + length === size || (asked.has('offset') && length > 0 && length % UPLOAD_PART_BYTES === 0)
    if (!isAligned || !isWhole || offset + length > size) {
      const text = `${name} has ${size} bytes; ${length} came from byte ${asked.get('offset') ?? '0'} on. Pieces begin and end at multiples of ${UPLOAD_PART_BYTES} or at the end`
      throw new RefusedError('err-carillon-upload-size', text)
    }
    const folder = stagedFolder(record)
    const names: string[] = []
    let at = offset
    for await (const part of readParts(exchange, { length, partBytes: UPLOAD_PART_BYTES })) {
      const object = partName(folder, name, at)
      await create(object, part, signal)
      names.push(object)
      at += part.length
    }
    const now = await read(bucket, tenant, ulid)
    const hasEnded = now?.record?.state === 'complete' || now?.record?.state === 'failed'
    if (now?.record?.nonce === record.nonce && !hasEnded) {
      await touch(bucket, now.record, now.revision)
      return done(record)
    }
    for (const each of names) await objects.delete(each, { timeoutMs: OBJECT_TIMEOUT_MS }) // U3
    throw notStarted(ulid)
  }

  /** An upload on which somebody works is not forgotten. */
  async function touch(bucket: KvBucket, record: UploadRecord, revision: number): Promise<void> {
    const nowMs = clock.now()
    if (record.state !== 'uploading' || nowMs - record.changedAtMs < TOUCH_MS) return
    try {
      const bytes = uploadRecord.format.encode({ ...record, changedAtMs: nowMs })
      await bucket.update(uploadKey(record.tenant, record.ulid), bytes, revision)
    } catch (error) {
      if (!(error instanceof ConflictError)) throw error // another file did it
    }
  }

  async function finish(exchange: Exchange): Promise<Answer> {
    const { tenant } = exchange
    const ulid = ulidOf(exchange)
    const bucket = await bus.bucket(UPLOADS_BUCKET)
    const change = (record: UploadRecord | undefined): UploadRecord => {
      if (record === undefined) throw notStarted(ulid)
      if (record.state !== 'uploading') return record // asked again
      return { ...record, state: 'waiting', changedAtMs: clock.now() }
    }
    try {
      const params = { tenant, ulid }
      const stands = await updateRecord({ bucket, clock, log, metrics, record: uploadRecord, params, change })
      return done(stands!)
    } catch (cause) {
      if (!(cause instanceof ConflictError)) throw cause
      const text = `the upload of ${ulid} keeps changing, try again`
      throw new UnavailableError('err-carillon-upload-busy', text, { cause })
    }
  }

  async function check(exchange: Exchange): Promise<Answer> {
    const { tenant } = exchange
    const ulid = ulidOf(exchange)
    const known = await read(await bus.bucket(UPLOADS_BUCKET), tenant, ulid)
    if (known?.record !== undefined) return done(known.record)
    const blocks = await blocksFrom(tenant, ulid)
    if (blocks.length > 0) return answer({ result: 'complete', blocks })
    throw notStarted(ulid)
  }

  // ---- what is there ----

  async function uploading(bucket: KvBucket, tenant: string, ulid: string): Promise<UploadRecord> {
    const record = (await read(bucket, tenant, ulid))?.record
    if (record === undefined) throw notStarted(ulid)
    if (record.state === 'uploading') return record
    const text = `the upload of ${ulid} was finished: it is ${resultOf[record.state]}`
    throw new RefusedError('err-carillon-upload-finished', text, { status: 409 })
  }

  async function assertNew(
    tenant: string,
    ulid: string,
    record: UploadRecord | undefined,
    replaces: boolean,
  ): Promise<void> {
    if (record?.state === 'waiting' || record?.state === 'validating')
      throw new RefusedError('err-carillon-upload-busy', `block ${ulid} is being validated`, { status: 409 })
    if (replaces) return
    const blocks = record?.state === 'complete' ? record.blocks : await blocksFrom(tenant, ulid)
    if (record?.state !== 'complete' && blocks.length === 0) return
    const text = `block already exists: ${ulid} became ${blocks.join(', ') || 'no block, it was all tombstones'}`
    throw new RefusedError('err-carillon-upload-exists', text, { status: 409 })
  }

  /** What the tenant's manifest still lists of a block, under its own name or as made from it. */
  async function blocksFrom(tenant: string, ulid: string): Promise<string[]> {
    const manifest = await readManifest(await bus.bucket(BLOCKS_BUCKET), tenant)
    return (manifest?.blocks ?? [])
      .filter(({ ulid: own, origin }) => own === ulid || (origin.kind === 'upload' && origin.source === ulid))
      .map((block) => block.ulid)
  }

  /** Looks again when the record stands, so that of many starts at once none is overlooked. Nothing is staged before. */
  async function withdrawUnlessFew(bucket: KvBucket, record: UploadRecord, revision: number): Promise<void> {
    try {
      await assertFew(bucket, record)
    } catch (refused) {
      if (!(refused instanceof RefusedError)) throw refused
      const error = { code: refused.code, text: refused.message }
      const withdrawn = uploadRecord.format.encode({ ...record, state: 'failed', error })
      await bucket.update(uploadKey(record.tenant, record.ulid), withdrawn, revision)
      throw refused
    }
  }

  /** Of the tenant's other uploads that are under way. */
  async function assertFew(bucket: KvBucket, { tenant, ulid, bytes }: UploadRecord): Promise<void> {
    const reading = { bucket, clock, log, metrics, timeoutMs: BUCKET_TIMEOUT_MS }
    let openCount = 0
    let stagedBytes = bytes
    for (const { kind, value } of await readRecords(reading, uploadRecord, { tenant })) {
      if (kind !== 'value' || value!.ulid === ulid || !isOpen(value!)) continue
      openCount++
      stagedBytes += value!.bytes
    }
    if (openCount >= config.uploadsOpenMax) {
      const text = `${openCount} uploads of this tenant are under way; finish them, or raise --uploads-open-max`
      throw new RefusedError('err-carillon-upload-too-many', text, { status: 429 })
    }
    if (stagedBytes > config.uploadStagedBytesMax) {
      const text = `the uploads of this tenant that are under way would have ${stagedBytes} bytes; finish some, or raise --upload-staged-bytes-max`
      throw new RefusedError('err-carillon-upload-too-many', text, { status: 429 })
    }
  }

  async function read(bucket: KvBucket, tenant: string, ulid: string): Promise<Known | undefined> {
    const found = await readRecord({ bucket, log, metrics }, uploadRecord, { tenant, ulid })
    if (found.kind === 'gone') return undefined
    if (found.kind !== 'newer-version') {
      return { record: found.kind === 'value' ? found.value : undefined, revision: found.revision }
    }
    const text = `the upload of ${ulid} was begun with a newer version of Carillon: ${found.reason}`
    throw new RefusedError('err-carillon-upload-busy', text, { status: 409 })
  }

  async function planFor(record: UploadRecord): Promise<ReadonlyMap<string, number>> {
    const folder = stagedFolder(record)
    const known = plans.get(folder)
    if (known !== undefined) return known
    const call = { timeoutMs: OBJECT_TIMEOUT_MS }
    const bytes = await readWhole(objects, planName(folder), call)
    if (bytes === undefined) throw notStarted(record.ulid)
    const plan = new Map(decodePlan(bytes).map(({ name, size }) => [name, size]))
    plans.set(folder, plan)
    return plan
  }

  async function put(bucket: KvBucket, record: UploadRecord, revision: number | undefined): Promise<number> {
    const key = uploadKey(record.tenant, record.ulid)
    try {
      const bytes = uploadRecord.format.encode(record)
      return revision === undefined ? await bucket.create(key, bytes) : await bucket.update(key, bytes, revision)
    } catch (cause) {
      if (!(cause instanceof ConflictError)) throw cause
      const text = `another upload of ${record.ulid} has just begun`
      throw new RefusedError('err-carillon-upload-busy', text, { status: 409, cause })
    }
  }

  async function create(name: string, bytes: Uint8Array, signal: AbortSignal): Promise<void> {
    try {
      await objects.create(name, bytes, { timeoutMs: OBJECT_TIMEOUT_MS, signal })
    } catch (cause) {
      if (!(cause instanceof ConflictError)) throw cause
      const text = `other bytes came for this file before: ${textOf(cause)}; start the upload anew with another meta.json`
      throw new RefusedError('err-carillon-upload-changed', text, { status: 409, cause })
    }
  }
}

/** Whether a start asks for what is under way already. */
function isSame(record: UploadRecord, metaSha256: string, replaces: boolean): boolean {
  return record.state === 'uploading' && record.metaSha256 === metaSha256 && record.replaces === replaces
}

function isOpen({ state }: UploadRecord): boolean {
  return state !== 'complete' && state !== 'failed'
}

function ulidOf({ params }: Exchange): string {
  const ulid = params['ulid'] ?? ''
  if (ULID_SHAPE.test(ulid)) return ulid
  throw new RefusedError('err-carillon-upload-ulid', `"${ulid.slice(0, 40)}" is no ULID`)
}

function notStarted(ulid: string): RefusedError {
  return new RefusedError('err-carillon-not-found', `there is no upload of block ${ulid}`, { status: 404 })
}

function done({ state, blocks, error }: UploadRecord): Answer {
  return answer({
    result: resultOf[state],
    ...(state === 'complete' ? { blocks } : {}),
    ...(error === undefined ? {} : { error: `${error.text} (${error.code})`, error_id: error.code }),
  })
}

function answer(body: object): Answer {
  return { status: 200, headers: { 'Content-Type': JSON_TYPE }, body: JSON.stringify(body) }
}
