// The four requests of an upload: start, files, finish, check. What stands in records and objects decides; nothing of it is kept here.
import type { Clock } from '../../../shared/base/clock.ts'
import { RefusedError } from '../../../shared/base/errors.ts'
import { hex, type Random } from '../../../shared/base/random.ts'
import { readManifest } from '../../../shared/blocks/read-manifest.ts'
import { assertNotTooOld } from '../../../shared/blocks/upload-age.ts'
import type { Bus } from '../../../shared/bus/port.ts'
import { BLOCKS_BUCKET } from '../../../shared/contracts/blocks.ts'
import { UPLOAD_PART_BYTES, UPLOADS_BUCKET, type UploadRecord } from '../../../shared/contracts/uploads.ts'
import type { Told } from '../../../shared/kv/passed-over.ts'
import { readKeepMs } from '../../../shared/limits/keep.ts'
import { ULID_SHAPE } from '../../../shared/model/ulid.ts'
import type { ObjectStore } from '../../../shared/objects/port.ts'
import { META_FILE } from '../../../shared/tsdb/block/files.ts'
import { sha256Of } from '../../../shared/wire/sha256.ts'
import type { GatewayConfig } from '../config.ts'
import { readBody } from '../http/body.ts'
import { readParts } from '../http/body-parts.ts'
import type { Answer, Exchange } from '../http/exchange.ts'
import { notStarted, uploadAnswer } from './upload-answers.ts'
import { META_BYTES_MAX, planOf } from './upload-plan.ts'
import { UploadRecords } from './upload-records.ts'
import { UploadStage } from './upload-stage.ts'

export interface UploadRequestsDeps extends Told {
  readonly bus: Bus
  readonly objects: ObjectStore
  readonly clock: Clock
  readonly random: Random
  readonly config: GatewayConfig
}

const NONCE_BYTES = 8

/** A piece of a file: it ends where the file does, or a part. */
interface Piece {
  readonly name: string
  readonly offset: number
  readonly length: number
}

export class UploadRequests {
  readonly #deps: UploadRequestsDeps
  readonly #stage: UploadStage

  constructor(deps: UploadRequestsDeps) {
    this.#deps = deps
    this.#stage = new UploadStage(deps.objects)
  }

  async start(exchange: Exchange): Promise<Answer> {
    const { bus, clock, config } = this.#deps
    const { tenant, signal } = exchange
    const ulid = ulidOf(exchange)
    const meta = await readBody(exchange, { bytesMax: META_BYTES_MAX })
    const { meta: parsed, files } = planOf(ulid, meta, config.uploadBytesMax)
    assertNotTooOld(parsed, clock.now() - (await readKeepMs(bus, tenant)))
    const metaSha256 = sha256Of(meta)
    const bytes = files.reduce((sum, { size }) => sum + size, 0)
    const records = await this.#recordsOf(tenant)
    const known = await records.read(ulid)
    const replaces = new URLSearchParams(exchange.search).get('replace') === 'true'
    await this.#assertNew({ tenant, ulid, record: known?.record, replaces })
    if (known?.record !== undefined && isSame(known.record, metaSha256, replaces)) {
      await this.#stage.begin(known.record, { files, meta, signal })
      return uploadAnswer(known.record) // goes on where it was
    }
    const record = this.#newRecord({ tenant, ulid, metaSha256, bytes, replaces })
    await records.begin(record, known?.revision)
    await this.#stage.begin(record, { files, meta, signal })
    return uploadAnswer(record)
  }

  async file(exchange: Exchange): Promise<Answer> {
    const { tenant, signal } = exchange
    const ulid = ulidOf(exchange)
    const records = await this.#recordsOf(tenant)
    const record = await records.uploading(ulid)
    const { name, offset, length } = await this.#pieceIn(exchange, record)
    const parts = readParts(exchange, { length, partBytes: UPLOAD_PART_BYTES })
    const taken = await this.#stage.take(record, { name, offset, parts, signal })
    const now = await records.read(ulid)
    const hasEnded = now?.record?.state === 'complete' || now?.record?.state === 'failed'
    if (now?.record?.nonce === record.nonce && !hasEnded) {
      await records.touch(now.record, now.revision)
      return uploadAnswer(record)
    }
    await this.#stage.remove(taken) // UPLOAD-3
    throw notStarted(ulid)
  }

  async finish(exchange: Exchange): Promise<Answer> {
    const ulid = ulidOf(exchange)
    const records = await this.#recordsOf(exchange.tenant)
    return uploadAnswer(await records.finish(ulid))
  }

  async check(exchange: Exchange): Promise<Answer> {
    const { tenant } = exchange
    const ulid = ulidOf(exchange)
    const known = await (await this.#recordsOf(tenant)).read(ulid)
    if (known?.record !== undefined) return uploadAnswer(known.record)
    const blocks = await this.#blocksFrom(tenant, ulid)
    if (blocks.length > 0) return uploadAnswer({ state: 'complete', blocks })
    throw notStarted(ulid)
  }

  async #recordsOf(tenant: string): Promise<UploadRecords> {
    return new UploadRecords({ ...this.#deps, tenant, bucket: await this.#deps.bus.bucket(UPLOADS_BUCKET) })
  }

  #newRecord(given: Pick<UploadRecord, 'tenant' | 'ulid' | 'metaSha256' | 'bytes' | 'replaces'>): UploadRecord {
    const { tenant, ulid, metaSha256, bytes, replaces } = given
    const { clock, random } = this.#deps
    const nowMs = clock.now()
    return {
      ...{ v: 1, tenant, ulid, nonce: hex(random.bytes(NONCE_BYTES)), metaSha256, bytes, replaces, state: 'uploading' },
      ...{ beganAtMs: nowMs, changedAtMs: nowMs, incarnation: '', beat: 0, attempt: 0, blocks: [] },
    }
  }

  /** Which piece of which file comes. */
  async #pieceIn({ search, request }: Exchange, record: UploadRecord): Promise<Piece> {
    const asked = new URLSearchParams(search)
    const name = asked.get('path') ?? ''
    const size = await this.#stage.sizeOf(record, name)
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
    return { name, offset, length }
  }

  async #assertNew({ tenant, ulid, record, replaces }: Before): Promise<void> {
    if (record?.state === 'waiting' || record?.state === 'validating')
      throw new RefusedError('err-carillon-upload-busy', `block ${ulid} is being validated`, { status: 409 })
    if (replaces) return
    const blocks = record?.state === 'complete' ? record.blocks : await this.#blocksFrom(tenant, ulid)
    if (record?.state !== 'complete' && blocks.length === 0) return
    const text = `block already exists: ${ulid} became ${blocks.join(', ') || 'no block, it was all tombstones'}`
    throw new RefusedError('err-carillon-upload-exists', text, { status: 409 })
  }

  /** What the tenant's manifest still lists of a block, under its own name or as made from it. */
  async #blocksFrom(tenant: string, ulid: string): Promise<string[]> {
    const manifest = await readManifest(await this.#deps.bus.bucket(BLOCKS_BUCKET), tenant)
    return (manifest?.blocks ?? [])
      .filter(({ ulid: own, origin }) => own === ulid || (origin.kind === 'upload' && origin.source === ulid))
      .map((block) => block.ulid)
  }
}

/** What stood before a start. */
interface Before {
  readonly tenant: string
  readonly ulid: string
  readonly record: UploadRecord | undefined
  readonly replaces: boolean
}

/** Whether a start asks for what is under way already. */
function isSame(record: UploadRecord, metaSha256: string, replaces: boolean): boolean {
  return record.state === 'uploading' && record.metaSha256 === metaSha256 && record.replaces === replaces
}

function ulidOf({ params }: Exchange): string {
  const ulid = params['ulid'] ?? ''
  if (ULID_SHAPE.test(ulid)) return ulid
  throw new RefusedError('err-carillon-upload-ulid', `"${ulid.slice(0, 40)}" is no ULID`)
}
