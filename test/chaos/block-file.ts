// The files in which JetStream keeps the messages of a stream, read and damaged while their server is stopped.
//
// A record: length u32 (bit 31: it has headers), sequence u64 (bit 63: erased, bit 62: a tombstone), time i64, length of the subject u16, the subject,
// [length of the headers u32, the headers], the payload, a hash of 8 bytes. Little-endian; nothing is compressed or encrypted here.
import { closeSync, existsSync, openSync, readdirSync, readFileSync, writeSync } from 'node:fs'
import { join } from 'node:path'

export interface StoredMessage {
  readonly file: string
  /** Where its record begins and ends in the file. */
  readonly at: number
  readonly end: number
  readonly seq: number
  readonly subject: string
  readonly payload: Uint8Array
}

const HEAD_BYTES = 22
const HASH_BYTES = 8
const HAS_HEADERS = 0x8000_0000
const NO_MESSAGE = 0b11n << 62n

/** Of whichever account has the stream. */
export function storedMessages(storeDir: string, stream: string): StoredMessage[] {
  const accounts = join(storeDir, 'jetstream')
  const dirs = readdirSync(accounts).map((account) => join(accounts, account, 'streams', stream, 'msgs'))
  return dirs.filter((dir) => existsSync(dir)).flatMap(messagesUnder)
}

function messagesUnder(dir: string): StoredMessage[] {
  const files = readdirSync(dir).filter((name) => name.endsWith('.blk'))
  files.sort((a, b) => Number.parseInt(a, 10) - Number.parseInt(b, 10))
  return files.flatMap((name) => messagesIn(join(dir, name)))
}

function messagesIn(file: string): StoredMessage[] {
  const bytes = readFileSync(file)
  const found: StoredMessage[] = []
  for (let at = 0; at + HEAD_BYTES + HASH_BYTES <= bytes.length; ) {
    const length = bytes.readUInt32LE(at)
    const size = length % HAS_HEADERS
    const end = at + size
    if (size < HEAD_BYTES + HASH_BYTES || end > bytes.length) break // what was being written
    const seq = bytes.readBigUInt64LE(at + 4)
    const subjectEnd = at + HEAD_BYTES + bytes.readUInt16LE(at + 20)
    const from = length >= HAS_HEADERS ? subjectEnd + 4 + bytes.readUInt32LE(subjectEnd) : subjectEnd
    const subject = bytes.subarray(at + HEAD_BYTES, subjectEnd).toString()
    const payload = bytes.subarray(from, end - HASH_BYTES)
    if ((seq & NO_MESSAGE) === 0n) found.push({ file, at, end, seq: Number(seq), subject, payload })
    at = end
  }
  return found
}

/** Its record as it stands in the file; nothing when the file is gone. */
export function bytesOf({ file, at, end }: StoredMessage): Buffer {
  return existsSync(file) ? readFileSync(file).subarray(at, end) : Buffer.alloc(0)
}

/** One bit of a byte; what the message says, its subject or its hash. */
export function flipBit({ file, at, end }: StoredMessage, random: { below(below: number): number }): void {
  const place = at + HEAD_BYTES + random.below(end - at - HEAD_BYTES)
  const byte = readFileSync(file).subarray(place, place + 1)
  byte[0]! ^= 1 << random.below(8)
  const handle = openSync(file, 'r+')
  try {
    writeSync(handle, byte, 0, 1, place)
  } finally {
    closeSync(handle)
  }
}
