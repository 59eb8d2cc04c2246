// The tombstones file of a block: per series the time ranges that are deleted, both ends inclusive. Byte for byte as Prometheus has it.
import { crc32c } from '../../wire/crc32c.ts'
import { ByteReader, ByteWriter } from './bytes.ts'
import { corruptAt, TOMBSTONES_FILE } from './files.ts'
import { CRC_BYTES } from './layout.ts'

const MAGIC = 0x0130ba30
const VERSION = 1
const HEADER_BYTES = 5

export interface Tombstone {
  /** The series' number in the block's index. */
  readonly ref: number
  /** Milliseconds, both inclusive. */
  readonly startMs: number
  readonly endMs: number
}

/** The bytes of the file: stones by ref and time, ranges of one series that touch or overlap made one. */
export function writeTombstones(stones: readonly Tombstone[]): Uint8Array<ArrayBuffer> {
  const writer = new ByteWriter(64)
  writer.u32(MAGIC)
  writer.u8(VERSION)
  for (const { ref, startMs, endMs } of joined(stones)) {
    writer.uvarint(ref)
    writer.varint(startMs)
    writer.varint(endMs)
  }
  writer.u32(crc32c(writer.buffer, HEADER_BYTES, writer.length)) // of the stones alone: Prometheus leaves out the version
  return writer.finish()
}

/** Throws CorruptError for any damage. */
export function readTombstones(bytes: Uint8Array): Tombstone[] {
  const end = bytes.length - CRC_BYTES
  if (end < HEADER_BYTES) throw corruptAt(TOMBSTONES_FILE, 0, `has only ${bytes.length} bytes`)
  const reader = new ByteReader(bytes, 0, bytes.length, TOMBSTONES_FILE, 0)
  const magic = reader.u32()
  if (magic !== MAGIC) throw corruptAt(TOMBSTONES_FILE, 0, `begins with 0x${magic.toString(16)}`)
  const version = reader.u8()
  if (version !== VERSION) throw corruptAt(TOMBSTONES_FILE, 4, `has version ${version}, only ${VERSION} is known`)
  reader.at = end
  if (reader.u32() !== crc32c(bytes, HEADER_BYTES, end))
    throw corruptAt(TOMBSTONES_FILE, end, 'checksum does not match')
  reader.at = HEADER_BYTES
  const stones: Tombstone[] = []
  while (reader.at < end) {
    const stone = { ref: reader.uvarint(), startMs: reader.varint(), endMs: reader.varint() }
    if (stone.endMs < stone.startMs) throw corruptAt(TOMBSTONES_FILE, reader.at, 'a range ends before it begins')
    stones.push(stone)
  }
  if (reader.at !== end) throw corruptAt(TOMBSTONES_FILE, end, 'ends inside a stone')
  return joined(stones)
}

function joined(stones: readonly Tombstone[]): Tombstone[] {
  const sorted = [...stones].sort((a, b) => a.ref - b.ref || a.startMs - b.startMs)
  const list: Tombstone[] = []
  for (const stone of sorted) {
    const last = list.at(-1)
    if (last === undefined || last.ref !== stone.ref || last.endMs < stone.startMs - 1) list.push(stone)
    else if (stone.endMs > last.endMs) list[list.length - 1] = { ...last, endMs: stone.endMs }
  }
  return list
}
