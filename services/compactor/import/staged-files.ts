// The files of an upload as they lie in the object store, in parts.
import { CorruptError, RefusedError } from '../../../shared/base/errors.ts'
import {
  decodePlan,
  partName,
  planName,
  stagedFolder,
  UPLOAD_PART_BYTES,
  type UploadRecord,
} from '../../../shared/contracts/uploads.ts'
import type { ObjectStore } from '../../../shared/objects/port.ts'

const READ_TIMEOUT_MS = 30_000
const LIST_TIMEOUT_MS = 60_000
const TOLD_MAX = 5

export class StagedFiles {
  private readonly objects: ObjectStore
  private readonly folder: string
  private readonly sizes: ReadonlyMap<string, number>

  private constructor(objects: ObjectStore, folder: string, sizes: ReadonlyMap<string, number>) {
    this.objects = objects
    this.folder = folder
    this.sizes = sizes
  }

  /** Throws RefusedError `err-carillon-upload-incomplete` unless all parts of all planned files are there. */
  static async open(objects: ObjectStore, record: UploadRecord, signal: AbortSignal): Promise<StagedFiles> {
    const folder = stagedFolder(record)
    const found = new Map<string, number>()
    for (const { name, size } of await objects.list(folder, { timeoutMs: LIST_TIMEOUT_MS, signal }))
      found.set(name, size)
    const planSize = found.get(planName(folder))
    if (planSize === undefined) throw incomplete(['the list of files'])
    const range = { start: 0, end: planSize }
    const plan = decodePlan(await objects.read(planName(folder), range, { timeoutMs: READ_TIMEOUT_MS, signal }))
    const missing: string[] = []
    for (const { name, size } of plan) {
      let there = 0
      for (let at = 0; at < size; at += UPLOAD_PART_BYTES) {
        const wanted = Math.min(UPLOAD_PART_BYTES, size - at)
        if (found.get(partName(folder, name, at)) === wanted) there += wanted
      }
      if (there !== size) missing.push(`${name} (${there} of ${size} bytes came)`)
    }
    if (missing.length > 0) throw incomplete(missing)
    return new StagedFiles(objects, folder, new Map(plan.map(({ name, size }) => [name, size])))
  }

  has(file: string): boolean {
    return this.sizes.has(file)
  }

  size(file: string): number {
    const size = this.sizes.get(file)
    if (size === undefined) throw new CorruptError('err-carillon-corrupt-block', `${file}: there is no such file`)
    return size
  }

  async read(file: string, start: number, end: number, signal: AbortSignal): Promise<Uint8Array> {
    if (start < 0 || start > end || end > this.size(file))
      throw new CorruptError('err-carillon-corrupt-block', `${file} at byte ${start}: ends before byte ${end}`)
    const bytes = new Uint8Array(end - start)
    for (let at = start; at < end; ) {
      const base = at - (at % UPLOAD_PART_BYTES)
      const to = Math.min(end, base + UPLOAD_PART_BYTES)
      const range = { start: at - base, end: to - base }
      const call = { timeoutMs: READ_TIMEOUT_MS, signal }
      bytes.set(await this.objects.read(partName(this.folder, file, base), range, call), at - start)
      at = to
    }
    return bytes
  }
}

function incomplete(missing: readonly string[]): RefusedError {
  const more = missing.length > TOLD_MAX ? `, and ${missing.length - TOLD_MAX} more` : ''
  const text = `not all files came: ${missing.slice(0, TOLD_MAX).join(', ')}${more}`
  return new RefusedError('err-carillon-upload-incomplete', text)
}
