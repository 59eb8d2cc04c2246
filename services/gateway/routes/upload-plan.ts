// What an upload says that it will bring: the files and sizes that its meta.json lists, in Thanos' section, as Mimir's tools write it, or in ours.
import { CorruptError, RefusedError } from '../../../shared/base/errors.ts'
import { UPLOAD_FILE_NAME, UPLOAD_FILES_MAX, type UploadFile } from '../../../shared/contracts/uploads.ts'
import { INDEX_FILE, META_FILE } from '../../../shared/tsdb/block/files.ts'
import { type BlockMeta, META_BYTES_MAX as LARGEST, parseMeta } from '../../../shared/tsdb/block/meta.ts'

export const META_BYTES_MAX = LARGEST

/** meta.json itself comes first. Throws RefusedError. */
export function planOf(
  ulid: string,
  bytes: Uint8Array,
  bytesMax: number,
): { readonly meta: BlockMeta; readonly files: readonly UploadFile[] } {
  const meta = metaOf(bytes)
  if (meta.ulid !== ulid)
    throw new RefusedError('err-carillon-upload-ulid', `meta.json is that of block ${meta.ulid}, not of ${ulid}`)
  const files = listed(JSON.parse(Buffer.from(bytes).toString()))
  if (files.length === 0 || files.length > UPLOAD_FILES_MAX) {
    const text = `meta.json has to list the block's files and their sizes under thanos.files (rel_path, size_bytes) or carillon.files (name, size): 1 to ${UPLOAD_FILES_MAX}, ${files.length} are listed`
    throw new RefusedError('err-carillon-upload-files', text)
  }
  const names = new Set<string>()
  for (const { name, size } of files) {
    const isSound = UPLOAD_FILE_NAME.test(name) && !names.has(name) && Number.isSafeInteger(size) && size > 0
    if (!isSound) {
      const text = `meta.json lists "${name.slice(0, 100)}" of ${size} bytes: a block has index, chunks/000001 and so on, and tombstones, each once and not empty`
      throw new RefusedError('err-carillon-upload-files', text)
    }
    names.add(name)
  }
  if (!names.has(INDEX_FILE)) throw new RefusedError('err-carillon-upload-files', 'meta.json lists no index')
  const total = files.reduce((sum, { size }) => sum + size, bytes.length)
  if (total > bytesMax) {
    const text = `the block has ${total} bytes, at most ${bytesMax} are taken (--upload-bytes-max)`
    throw new RefusedError('err-carillon-upload-too-large', text, { status: 413 })
  }
  return { meta, files: [{ name: META_FILE, size: bytes.length }, ...files] }
}

function metaOf(bytes: Uint8Array): BlockMeta {
  try {
    return parseMeta(bytes)
  } catch (cause) {
    if (!(cause instanceof CorruptError)) throw cause
    throw new RefusedError('err-carillon-upload-meta', cause.message, { cause })
  }
}

function listed(json: unknown): UploadFile[] {
  const { thanos, carillon } = json as { thanos?: { files?: unknown }; carillon?: { files?: unknown } }
  const files = [thanos?.files, carillon?.files].find(Array.isArray) ?? []
  return files
    .map((file: Record<string, unknown> | null) => ({
      name: String(file?.['rel_path'] ?? file?.['name'] ?? ''),
      size: Number(file?.['size_bytes'] ?? file?.['size'] ?? (file?.['rel_path'] === META_FILE ? 0 : Number.NaN)),
    }))
    .filter(({ name }) => name !== META_FILE)
}
