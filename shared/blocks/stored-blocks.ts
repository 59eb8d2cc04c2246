// The bytes of blocks in the object store (MANIFEST-4).
import { CorruptError } from '../base/errors.ts'
import { type BlockEntry, blockPrefix } from '../contracts/blocks.ts'
import { encodeTenant } from '../model/tenant.ts'
import { ULID_SHAPE } from '../model/ulid.ts'
import type { ObjectCall, ObjectStore } from '../objects/port.ts'
import { META_FILE } from '../tsdb/block/files.ts'
import { type BlockMeta, META_BYTES_MAX, parseMeta } from '../tsdb/block/meta.ts'
import { sha256Of } from '../wire/sha256.ts'
import type { BlockUpload, FoundBlock, StoredBlock } from './port.ts'

const WRITE_TIMEOUT_MS = 30_000
const READ_TIMEOUT_MS = 20_000
const LIST_TIMEOUT_MS = 60_000

const callOf = (timeoutMs: number, signal: AbortSignal | undefined): ObjectCall =>
  signal === undefined ? { timeoutMs } : { timeoutMs, signal }

/** One writer, one object after the other, so that a block's objects lie together; meta.json is the last. */
export async function uploadBlock(
  objects: ObjectStore,
  tenant: string,
  { ulid, files }: BlockUpload,
  signal?: AbortSignal,
): Promise<{ metaSha256: string; bytes: number }> {
  const meta = files.at(-1)
  if (meta?.name !== META_FILE) throw new CorruptError('block-damaged', `block ${ulid} does not end with ${META_FILE}`)
  const prefix = blockPrefix(encodeTenant(tenant), ulid)
  let bytes = 0
  for (const file of files) {
    const call = { ...callOf(WRITE_TIMEOUT_MS, signal), readBack: true, heals: true }
    await objects.create(prefix + file.name, file.bytes, call)
    bytes += file.bytes.length
  }
  return { metaSha256: sha256Of(meta.bytes), bytes }
}

export function openBlock(
  objects: ObjectStore,
  tenant: string,
  { ulid, metaSha256 }: Pick<BlockEntry, 'ulid' | 'metaSha256'>,
): StoredBlock {
  const prefix = blockPrefix(encodeTenant(tenant), ulid)
  let opened: Promise<BlockMeta> | undefined

  const meta = (signal?: AbortSignal): Promise<BlockMeta> => {
    opened ??= readMeta(signal).catch((error: unknown) => {
      opened = undefined // a failed read is not remembered
      throw error
    })
    return opened
  }
  const readMeta = async (signal: AbortSignal | undefined) => {
    const info = await objects.info(prefix + META_FILE, callOf(READ_TIMEOUT_MS, signal))
    if (info === undefined) throw new CorruptError('object-missing', `${prefix}${META_FILE} is listed and not there`)
    if (info.size > META_BYTES_MAX) throw damaged(prefix + META_FILE, `takes ${info.size} bytes`)
    const bytes = await readWhole(objects, prefix + META_FILE, info.size, signal)
    if (sha256Of(bytes) !== metaSha256) throw damaged(prefix + META_FILE, 'is not the one that the manifest lists')
    return parseMeta(bytes)
  }

  return {
    ulid,
    meta,
    async size(file, signal) {
      const { carillon } = await meta(signal)
      const listed = carillon
        ? carillon.files.find(({ name }) => name === file)
        : await objects.info(prefix + file, callOf(READ_TIMEOUT_MS, signal)) // made elsewhere
      if (listed === undefined) throw damaged(prefix + file, `is not listed in ${META_FILE}`)
      return listed.size
    },
    ...(objects.pieceBytes !== undefined && { pieceBytes: objects.pieceBytes }),
    read: (file, start, end, signal) =>
      objects.read(prefix + file, { start, end }, { ...callOf(READ_TIMEOUT_MS, signal), mayShare: true }),
    ahead(file) {
      objects.info(prefix + file, { timeoutMs: READ_TIMEOUT_MS }).catch(() => {}) // reading it will tell
    },
  }
}

/** meta.json goes first: what is left without it is no block. */
export async function deleteBlock(objects: ObjectStore, tenant: string, ulid: string): Promise<void> {
  const prefix = blockPrefix(encodeTenant(tenant), ulid)
  await objects.delete(prefix + META_FILE, { timeoutMs: WRITE_TIMEOUT_MS })
  for (const { name } of await objects.list(prefix, { timeoutMs: LIST_TIMEOUT_MS })) {
    await objects.delete(name, { timeoutMs: WRITE_TIMEOUT_MS })
  }
}

export async function listBlocks(objects: ObjectStore, tenant: string): Promise<FoundBlock[]> {
  const prefix = `${encodeTenant(tenant)}/`
  const found = new Map<string, FoundBlock>()
  for (const info of await objects.list(prefix, { timeoutMs: LIST_TIMEOUT_MS })) {
    const [ulid = '', ...rest] = info.name.slice(prefix.length).split('/')
    if (!ULID_SHAPE.test(ulid)) continue
    const before = found.get(ulid) ?? { ulid, isWhole: false, bytes: 0, storedAtMs: 0 }
    found.set(ulid, {
      ulid,
      isWhole: before.isWhole || rest.join('/') === META_FILE,
      bytes: before.bytes + info.size,
      storedAtMs: Math.max(before.storedAtMs, info.storedAtMs),
    })
  }
  return [...found.values()]
}

function readWhole(
  objects: ObjectStore,
  name: string,
  size: number,
  signal: AbortSignal | undefined,
): Promise<Uint8Array> {
  return objects.read(name, { start: 0, end: size }, callOf(READ_TIMEOUT_MS, signal))
}

function damaged(name: string, text: string): CorruptError {
  return new CorruptError('block-damaged', `${name} ${text}`)
}
