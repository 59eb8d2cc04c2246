// How an object lies at rest, in any store: cut into parts of PART_BYTES, each with a CRC-32C of its bytes as given. Either every part is a
// Zstandard frame, or none is; so what lies there as a whole is the object, or the object as a .zst file.
//
// Invariants
//   PART-1  A part that is not what was written is CorruptError `object-damaged`, never other bytes.
//   PART-2  A range reads the parts that it touches and no others.
import { promisify } from 'node:util'
import { constants, zstdCompress, zstdDecompress } from 'node:zlib'
import { ConflictError, CorruptError, textOf } from '../base/errors.ts'
import { crc32c } from '../wire/crc32c.ts'
import { sha256Of } from '../wire/sha256.ts'

/** What a layout without `v` has. */
const LAYOUT_VERSION = 1
export const PART_BYTES = 256 * 1024
/** What compression must save at least, as a share of the bytes as given (docs/decisions/0013). */
const savedRatioMin = 0.05
const level = { params: { [constants.ZSTD_c_compressionLevel]: 3 } }

const compress = promisify(zstdCompress)
const decompress = promisify(zstdDecompress)

export interface Layout {
  readonly size: number
  readonly sha256: string
  readonly encoding: 'plain' | 'zstd'
  readonly partBytes: number
  /** Per part: CRC-32C of its bytes as given. */
  readonly crcs: readonly number[]
  /** Per part: its bytes at rest. */
  readonly sizes: readonly number[]
}

/** Every part at rest; the bytes of plain parts are views of `bytes`. Without `packs` nothing leaves this thread. */
export async function layOut(
  bytes: Uint8Array,
  { packs }: { packs: boolean },
): Promise<{ layout: Layout; parts: readonly Uint8Array[] }> {
  const plain: Uint8Array[] = []
  for (let at = 0; at < bytes.length; at += PART_BYTES) plain.push(bytes.subarray(at, at + PART_BYTES))
  const packed = packs ? await packedOf(plain, bytes.length) : undefined
  const parts = packed ?? plain
  const layout: Layout = {
    size: bytes.length,
    sha256: sha256Of(bytes),
    encoding: packed === undefined ? 'plain' : 'zstd',
    partBytes: PART_BYTES,
    crcs: plain.map((part) => crc32c(part)),
    sizes: parts.map((part) => part.length),
  }
  return { layout, parts }
}

export const storedSizeOf = (layout: Layout): number => layout.sizes.reduce((sum, size) => sum + size, 0)

/** Undefined when it is not worth it; the middle part tells whether the others are tried. */
async function packedOf(plain: readonly Uint8Array[], size: number): Promise<Uint8Array[] | undefined> {
  const isWorth = (packed: number, given: number) => packed <= given * (1 - savedRatioMin)
  const probe = plain[plain.length >> 1]
  if (probe === undefined || !isWorth((await compress(probe, level)).length, probe.length)) return undefined
  const packed = await Promise.all(plain.map((part) => compress(part, level)))
  const packedSize = packed.reduce((sum, part) => sum + part.length, 0)
  return isWorth(packedSize, size) ? packed : undefined
}

/** Room beside a part, so that it is unpacked in one go: in pieces of 16 KiB, as is zlib's habit, each waits for a thread of the pool. */
const UNPACK_SPARE = 64

/** The bytes as given of part `index`, of what was found at rest. */
export async function unpackPart(name: string, layout: Layout, index: number, stored: Uint8Array): Promise<Uint8Array> {
  const size = Math.min(layout.partBytes, layout.size - index * layout.partBytes)
  let bytes = stored
  if (layout.encoding === 'zstd') {
    try {
      bytes = await decompress(stored, { maxOutputLength: size, chunkSize: size + UNPACK_SPARE })
    } catch (error) {
      throw damaged(name, `part ${index} cannot be unpacked: ${textOf(error)}`, error)
    }
  }
  if (bytes.length !== size) throw damaged(name, `part ${index} has ${bytes.length} bytes, not ${size}`)
  if (crc32c(bytes) !== layout.crcs[index]) throw damaged(name, `part ${index} breaks its checksum`) // PART-1
  return bytes
}

/** How many parts are read at once for one call. */
const readsMax = 8

/** Bytes [start, end), of parts that `readPart` brings as they lie at rest. */
export async function readRange(
  name: string,
  layout: Layout,
  { start, end }: { start: number; end: number },
  readPart: (index: number) => Promise<Uint8Array>,
): Promise<Uint8Array> {
  if (!(start >= 0 && start <= end && end <= layout.size)) {
    throw damaged(name, `bytes ${start} to ${end} were asked for, it has ${layout.size}`)
  }
  const { partBytes, encoding } = layout
  if (start % partBytes === 0 && end - start === partBytes && encoding === 'zstd') {
    const index = start / partBytes
    return unpackPart(name, layout, index, await readPart(index)) // nobody else has these bytes
  }
  const range = new Uint8Array(end - start)
  if (end === start) return range
  let next = Math.floor(start / partBytes) // PART-2
  const last = Math.floor((end - 1) / partBytes)
  const reader = async () => {
    while (next <= last) {
      const index = next++
      const part = await unpackPart(name, layout, index, await readPart(index))
      const partStart = index * partBytes
      const from = Math.max(start, partStart)
      range.set(part.subarray(from - partStart, Math.min(end, partStart + part.length) - partStart), from - start)
    }
  }
  await Promise.all(Array.from({ length: Math.min(readsMax, last - next + 1) }, reader))
  return range
}

/** All of it: the parts against their checksums, the whole against its own. */
export async function verifyWhole(
  name: string,
  layout: Layout,
  readPart: (index: number) => Promise<Uint8Array>,
): Promise<void> {
  const bytes = await readRange(name, layout, { start: 0, end: layout.size }, readPart)
  if (sha256Of(bytes) !== layout.sha256) throw damaged(name, 'the whole breaks its SHA-256')
}

/** What was stored beside the parts, from JSON. */
export function parseLayout(name: string, value: unknown): Layout {
  const layout = value as Layout
  const version: unknown = (value as { v?: unknown } | null)?.v ?? LAYOUT_VERSION
  if (version !== LAYOUT_VERSION) {
    const text = `object ${name} lies in format ${version}, this version of Carillon knows ${LAYOUT_VERSION}: start a newer one`
    throw new CorruptError('newer-version', text)
  }
  const isCount = (n: unknown) => Number.isSafeInteger(n) && (n as number) >= 0
  const isRight =
    typeof value === 'object' &&
    value !== null &&
    isCount(layout.size) &&
    isCount(layout.partBytes) &&
    layout.partBytes > 0 &&
    /^[0-9a-f]{64}$/.test(String(layout.sha256)) &&
    (layout.encoding === 'plain' || layout.encoding === 'zstd') &&
    [layout.crcs, layout.sizes].every((list) => {
      return Array.isArray(list) && list.length === Math.ceil(layout.size / layout.partBytes) && list.every(isCount)
    })
  if (!isRight) throw damaged(name, 'its layout makes no sense')
  return layout
}

/** Damage of what stands at rest, which bytes that are in hand can take the place of; what a newer version wrote is none. */
export function isDamage(error: unknown): error is CorruptError {
  return error instanceof CorruptError && error.code === 'object-damaged'
}

export function damaged(name: string, why: string, cause?: unknown): CorruptError {
  return new CorruptError('object-damaged', `object ${name}: ${why}`, { cause })
}

export function missing(name: string): CorruptError {
  return new CorruptError('object-missing', `object ${name} is not there`)
}

export function exists(name: string): ConflictError {
  return new ConflictError('object-exists', `object ${name} stands there with other bytes`)
}
