// Where the files of an upload wait for their check: objects, one per part, and the plan of what belongs there.
import { LRUCache } from 'lru-cache'
import { ConflictError, RefusedError, textOf } from '../../../shared/base/errors.ts'
import {
  decodePlan,
  encodePlan,
  partName,
  planName,
  stagedFolder,
  UPLOAD_PART_BYTES,
  type UploadFile,
  type UploadRecord,
} from '../../../shared/contracts/uploads.ts'
import type { ObjectStore } from '../../../shared/objects/port.ts'
import { readWhole } from '../../../shared/objects/read-whole.ts'
import { META_FILE } from '../../../shared/tsdb/block/files.ts'
import { notStarted } from './upload-answers.ts'

const OBJECT_TIMEOUT_MS = 60_000
/** Plans remembered; each is read again when it was forgotten. */
const PLANS_MAX = 16

export class UploadStage {
  readonly #objects: ObjectStore
  readonly #plans = new LRUCache<string, ReadonlyMap<string, number>>({ max: PLANS_MAX })

  constructor(objects: ObjectStore) {
    this.#objects = objects
  }

  /** The plan is the last: files are taken when it is there. */
  async begin(
    record: UploadRecord,
    { files, meta, signal }: { files: readonly UploadFile[]; meta: Uint8Array; signal: AbortSignal },
  ): Promise<void> {
    const folder = stagedFolder(record)
    for (let at = 0; at < meta.length; at += UPLOAD_PART_BYTES)
      await this.#create(partName(folder, META_FILE, at), meta.subarray(at, at + UPLOAD_PART_BYTES), signal)
    await this.#create(planName(folder), encodePlan(files), signal)
  }

  /** The size of a file that belongs to the upload; undefined: none of that name does. */
  async sizeOf(record: UploadRecord, name: string): Promise<number | undefined> {
    const folder = stagedFolder(record)
    const known = this.#plans.get(folder)
    if (known !== undefined) return known.get(name)
    const bytes = await readWhole(this.#objects, planName(folder), { timeoutMs: OBJECT_TIMEOUT_MS })
    if (bytes === undefined) throw notStarted(record.ulid)
    const plan = new Map(decodePlan(bytes).map((file) => [file.name, file.size]))
    this.#plans.set(folder, plan)
    return plan.get(name)
  }

  /** Resolves with the names of the objects that hold the parts, which follow each other from `offset` on. */
  async take(
    record: UploadRecord,
    {
      name,
      offset,
      parts,
      signal,
    }: { name: string; offset: number; parts: AsyncIterable<Uint8Array>; signal: AbortSignal },
  ): Promise<string[]> {
    const folder = stagedFolder(record)
    const names: string[] = []
    let at = offset
    for await (const part of parts) {
      const object = partName(folder, name, at)
      await this.#create(object, part, signal)
      names.push(object)
      at += part.length
    }
    return names
  }

  async remove(names: readonly string[]): Promise<void> {
    for (const name of names) await this.#objects.delete(name, { timeoutMs: OBJECT_TIMEOUT_MS })
  }

  async #create(name: string, bytes: Uint8Array, signal: AbortSignal): Promise<void> {
    try {
      await this.#objects.create(name, bytes, { timeoutMs: OBJECT_TIMEOUT_MS, signal })
    } catch (cause) {
      if (!(cause instanceof ConflictError)) throw cause
      const text = `other bytes came for this file before: ${textOf(cause)}; start the upload anew with another meta.json`
      throw new RefusedError('err-carillon-upload-changed', text, { status: 409, cause })
    }
  }
}
