// The records of one tenant's uploads (contracts/uploads.ts), as a gateway reads and changes them: always by compare-and-set.
import type { Clock } from '../../../shared/base/clock.ts'
import { ConflictError, RefusedError, UnavailableError } from '../../../shared/base/errors.ts'
import type { KvBucket } from '../../../shared/bus/port.ts'
import { type UploadRecord, uploadKey, uploadRecord } from '../../../shared/contracts/uploads.ts'
import type { Told } from '../../../shared/kv/passed-over.ts'
import { readRecord, readRecords } from '../../../shared/kv/read-records.ts'
import { updateRecord } from '../../../shared/kv/update.ts'
import type { GatewayConfig } from '../config.ts'
import { notStarted, resultOf } from './upload-answers.ts'

export interface UploadRecordsDeps extends Told {
  readonly bucket: KvBucket
  readonly clock: Clock
  readonly config: Pick<GatewayConfig, 'uploadsOpenMax' | 'uploadStagedBytesMax'>
  readonly tenant: string
}

const BUCKET_TIMEOUT_MS = 10_000
/** How often the record of an upload under way says that it is. */
const TOUCH_MS = 10 * 60_000

interface Known {
  /** undefined: what stands there cannot be read. */
  readonly record: UploadRecord | undefined
  readonly revision: number
}

export class UploadRecords {
  readonly #deps: UploadRecordsDeps

  constructor(deps: UploadRecordsDeps) {
    this.#deps = deps
  }

  async read(ulid: string): Promise<Known | undefined> {
    const { bucket, log, metrics, tenant } = this.#deps
    const found = await readRecord({ bucket, log, metrics }, uploadRecord, { tenant, ulid })
    if (found.kind === 'gone') return undefined
    if (found.kind !== 'newer-version') {
      return { record: found.kind === 'value' ? found.value : undefined, revision: found.revision }
    }
    const text = `the upload of ${ulid} was begun with a newer version of Carillon: ${found.reason}`
    throw new RefusedError('err-carillon-upload-busy', text, { status: 409 })
  }

  /** The record of an upload that still takes files. */
  async uploading(ulid: string): Promise<UploadRecord> {
    const record = (await this.read(ulid))?.record
    if (record === undefined) throw notStarted(ulid)
    if (record.state === 'uploading') return record
    const text = `the upload of ${ulid} was finished: it is ${resultOf[record.state]}`
    throw new RefusedError('err-carillon-upload-finished', text, { status: 409 })
  }

  /** In the place of the record at `revision`, if there was one. Refuses what would be more than a tenant may have under way. */
  async begin(record: UploadRecord, revision: number | undefined): Promise<void> {
    await this.#assertFew(record)
    const written = await this.#put(record, revision)
    await this.#withdrawUnlessFew(record, written)
  }

  /** An upload on which somebody works is not forgotten. */
  async touch(record: UploadRecord, revision: number): Promise<void> {
    const nowMs = this.#deps.clock.now()
    if (record.state !== 'uploading' || nowMs - record.changedAtMs < TOUCH_MS) return
    try {
      await this.#update({ ...record, changedAtMs: nowMs }, revision)
    } catch (error) {
      if (!(error instanceof ConflictError)) throw error // another file did it
    }
  }

  /** Hands an upload to those that validate. Resolves with the record as it stands then. */
  async finish(ulid: string): Promise<UploadRecord> {
    const { bucket, clock, log, metrics, tenant } = this.#deps
    const change = (record: UploadRecord | undefined): UploadRecord => {
      if (record === undefined) throw notStarted(ulid)
      if (record.state !== 'uploading') return record // asked again
      return { ...record, state: 'waiting', changedAtMs: clock.now() }
    }
    try {
      const params = { tenant, ulid }
      const stands = await updateRecord({ bucket, clock, log, metrics, record: uploadRecord, params, change })
      return stands!
    } catch (cause) {
      if (!(cause instanceof ConflictError)) throw cause
      const text = `the upload of ${ulid} keeps changing, try again`
      throw new UnavailableError('err-carillon-upload-busy', text, { cause })
    }
  }

  async #put(record: UploadRecord, revision: number | undefined): Promise<number> {
    try {
      if (revision !== undefined) return await this.#update(record, revision)
      return await this.#deps.bucket.create(keyOf(record), uploadRecord.format.encode(record))
    } catch (cause) {
      if (!(cause instanceof ConflictError)) throw cause
      const text = `another upload of ${record.ulid} has just begun`
      throw new RefusedError('err-carillon-upload-busy', text, { status: 409, cause })
    }
  }

  /** Looks again when the record stands, so that of many starts at once none is overlooked. Nothing is staged before. */
  async #withdrawUnlessFew(record: UploadRecord, revision: number): Promise<void> {
    try {
      await this.#assertFew(record)
    } catch (refused) {
      if (!(refused instanceof RefusedError)) throw refused
      await this.#update({ ...record, state: 'failed', error: { code: refused.code, text: refused.message } }, revision)
      throw refused
    }
  }

  /** Of the tenant's other uploads that are under way. */
  async #assertFew({ tenant, ulid, bytes }: UploadRecord): Promise<void> {
    const { bucket, clock, log, metrics, config } = this.#deps
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

  #update(record: UploadRecord, revision: number): Promise<number> {
    return this.#deps.bucket.update(keyOf(record), uploadRecord.format.encode(record), revision)
  }
}

function keyOf({ tenant, ulid }: UploadRecord): string {
  return uploadKey(tenant, ulid)
}

function isOpen({ state }: UploadRecord): boolean {
  return state !== 'complete' && state !== 'failed'
}
