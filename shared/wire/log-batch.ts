// The log batch: what a distributor appends to a partition log and its owners apply. docs/formats/log-batch.md draws the bytes.
//
//   "CB" | version 1 | flags 0 | CRC-32C of all that follows, little-endian | CBOR array of 15 fields
//
// Each version has a number of fields of its own, which vouches for the version: so no bit of a batch can flip unnoticed, nor make it look like a newer one.
//
// Version 2 has 17 fields: start times behind. It is written only where a sample has one. Version 3 has 19: behind them where what it states again
// was first told; only owners write it.
//
// Ids and label strings are numbered within the session (LOG-1, LOG-2); times and ids travel as differences to the sample before, values as raw
// 64-bit words. Encoding neither knows nor cares what the numbers mean: that is the distributor's dictionary and the owner's.
import { Decoder } from 'cbor-x'
import { CorruptError, textOf } from '../base/errors.ts'
import { crc32c } from './crc32c.ts'
import { Reader } from './varint.ts'

export const SESSION_BYTES = 16
const VERSION = 1
const VERSION_STARTS = 2
const VERSION_PLACES = 3
const HEADER_BYTES = 8
const cbor = new Decoder({ useRecords: false })

/** Who wrote the batch, and under which mark. */
export interface BatchHeader {
  /** 128 random bits: one dictionary of one distributor for one (partition, epoch). */
  readonly session: Uint8Array
  /** The number of the mark it was encoded under, and that mark's nonce. */
  readonly epoch: number
  readonly nonce: string
  /** Counts the batches of the session from 1. */
  readonly counter: number
  /** The newest batch of the session that was known to be stored when this one was encoded; 0 and 0: none. */
  readonly lastCounter: number
  readonly lastSeq: number
}

export interface LogBatch extends BatchHeader {
  /** [number, length, bytes]* : label strings that this batch defines. */
  readonly strings: Uint8Array
  /** [id, tenant string, count of pairs, (name string, value string)*]* : series that this batch defines. */
  readonly definitions: Uint8Array
  readonly sampleCount: number
  /** Zigzag difference of each sample's id to the one before (the first to 0). */
  readonly ids: Uint8Array
  /** Zigzag difference of each sample's time, ms, to the one before (the first to 0). */
  readonly times: Uint8Array
  readonly values: Float64Array
  /** [id, time, length, canonical histogram]* */
  readonly histograms: Uint8Array
  /** [id, time, value, count of pairs, (name, value)*]* */
  readonly exemplars: Uint8Array
  /** [tenant, metric, type, help, unit]* */
  readonly metadata: Uint8Array
  /** Only where a sample has one: the start times of the samples, then of the histograms (starts-column.ts). */
  readonly starts?: Uint8Array | undefined
  readonly histogramStarts?: Uint8Array | undefined
  /** Only in a batch that states again what was told before: where each exemplar, and each metadata row, was told (places-column.ts). */
  readonly exemplarPlaces?: Uint8Array | undefined
  readonly metadataPlaces?: Uint8Array | undefined
}

const NONE = new Uint8Array(0)

/** Encodes to a fresh buffer of just the size. The CBOR is written here and not by the library, which would grow and copy. */
export function encodeLogBatch(batch: LogBatch): Uint8Array {
  const values = new Uint8Array(batch.values.buffer, batch.values.byteOffset, batch.values.byteLength)
  const columns = [batch.session, batch.strings, batch.definitions, batch.ids, batch.times, values]
  columns.push(batch.histograms, batch.exemplars, batch.metadata)
  const { starts = NONE, histogramStarts = NONE, exemplarPlaces = NONE, metadataPlaces = NONE } = batch
  const hasPlaces = exemplarPlaces.length + metadataPlaces.length > 0
  const hasStarts = hasPlaces || starts.length + histogramStarts.length > 0
  columns.push(starts, histogramStarts, exemplarPlaces, metadataPlaces)
  const columnBytes = columns.reduce((sum, column) => sum + column.length, 0)
  const out = new CborOut(
    HEADER_BYTES + columnBytes + 3 * batch.nonce.length + FIELD_COUNT_PLACES * FIELD_HEAD_BYTES_MAX,
  )
  out.head(ARRAY, hasPlaces ? FIELD_COUNT_PLACES : hasStarts ? FIELD_COUNT_STARTS : FIELD_COUNT)
  out.bytes(batch.session)
  out.head(UNSIGNED, batch.epoch)
  out.text(batch.nonce)
  out.head(UNSIGNED, batch.counter)
  out.head(UNSIGNED, batch.lastCounter)
  out.head(UNSIGNED, batch.lastSeq)
  out.bytes(batch.strings)
  out.bytes(batch.definitions)
  out.head(UNSIGNED, batch.sampleCount)
  out.bytes(batch.ids)
  out.bytes(batch.times)
  out.head(TAG, FLOAT64_LITTLE_ENDIAN)
  out.bytes(values)
  out.bytes(batch.histograms)
  out.bytes(batch.exemplars)
  out.bytes(batch.metadata)
  if (hasStarts) {
    out.bytes(starts)
    out.bytes(histogramStarts)
  }
  if (hasPlaces) {
    out.bytes(exemplarPlaces)
    out.bytes(metadataPlaces)
  }
  return out.sealed(hasPlaces ? VERSION_PLACES : hasStarts ? VERSION_STARTS : VERSION)
}

const FIELD_COUNT = 15
const FIELD_COUNT_STARTS = 17
const FIELD_COUNT_PLACES = 19
const FIELD_COUNTS: Readonly<Record<number, number>> = {
  [VERSION]: FIELD_COUNT,
  [VERSION_STARTS]: FIELD_COUNT_STARTS,
  [VERSION_PLACES]: FIELD_COUNT_PLACES,
}
/** A tag and a length. */
const FIELD_HEAD_BYTES_MAX = 12
/** Major types of CBOR, and the tag of RFC 8746 for columns of 64-bit floats. */
const UNSIGNED = 0
const BYTES = 2
const TEXT = 3
const ARRAY = 4
const TAG = 6
const FLOAT64_LITTLE_ENDIAN = 86

/** CBOR behind the header of a batch. */
class CborOut {
  private readonly buffer: Buffer<ArrayBuffer>
  private at = HEADER_BYTES

  constructor(bytesMax: number) {
    this.buffer = Buffer.allocUnsafe(bytesMax)
  }

  head(major: number, value: number): void {
    const { buffer } = this
    const type = major << 5
    if (value < 24) buffer[this.at++] = type | value
    else if (value < 0x100) {
      buffer[this.at++] = type | 24
      buffer[this.at++] = value
    } else if (value < 0x10000) {
      buffer[this.at++] = type | 25
      this.at = buffer.writeUInt16BE(value, this.at)
    } else if (value < 0x1_0000_0000) {
      buffer[this.at++] = type | 26
      this.at = buffer.writeUInt32BE(value, this.at)
    } else {
      buffer[this.at++] = 0xfb // as a 64-bit float, which readers of this format take for numbers of this size
      this.at = buffer.writeDoubleBE(value, this.at)
    }
  }

  bytes(bytes: Uint8Array): void {
    this.head(BYTES, bytes.length)
    this.buffer.set(bytes, this.at)
    this.at += bytes.length
  }

  text(text: string): void {
    this.head(TEXT, Buffer.byteLength(text))
    this.at += this.buffer.write(text, this.at)
  }

  sealed(version: number): Uint8Array {
    const bytes = this.buffer.subarray(0, this.at)
    bytes[0] = 0x43
    bytes[1] = 0x42
    bytes[2] = version
    bytes[3] = 0
    bytes.writeUInt32LE(crc32c(bytes, HEADER_BYTES), 4)
    return bytes
  }
}

/** The checksum that stands in an encoded batch (not checked against it). */
export function checksumOf(bytes: Uint8Array): number {
  return bytes.length < HEADER_BYTES ? 0 : new Reader(bytes, 4, 8).u32le()
}

/** As version and flags say. The checksum does not cover them, but the number of fields, which no two versions share: where that is a known one, they
 *  are what belongs to it, or damaged. Only beside another number may they be of a newer version. */
function fieldCountOf(bytes: Uint8Array): number {
  const [version, flags] = [bytes[2]!, bytes[3]!]
  const said = flags === 0 ? FIELD_COUNTS[version] : undefined
  const count = Object.values(FIELD_COUNTS).find((each) => bytes[HEADER_BYTES] === ((ARRAY << 5) | each))
  if (said === undefined && count === undefined) {
    const text = `log batch of version ${version}, flags ${flags}; known are 1 to ${VERSION_PLACES}, none`
    throw new CorruptError('newer-version', text)
  }
  if (said === undefined || said !== count)
    throw new CorruptError('bad-batch', `log batch: version ${version}, flags ${flags}, but ${count ?? 'other'} fields`)
  return said
}

/** Throws CorruptError: `bad-magic`, `newer-version`, `bad-checksum` or `bad-batch`. */
export function decodeLogBatch(bytes: Uint8Array): LogBatch {
  if (bytes.length < HEADER_BYTES || bytes[0] !== 0x43 || bytes[1] !== 0x42) {
    throw new CorruptError('bad-magic', `log batch of ${bytes.length} bytes does not start with "CB"`)
  }
  const stated = checksumOf(bytes)
  const actual = crc32c(bytes, HEADER_BYTES)
  // First of all: only what its checksum vouches for can be of a newer version, anything else is junk.
  if (stated !== actual) throw new CorruptError('bad-checksum', `log batch has CRC-32C ${actual}, states ${stated}`)
  const fieldCount = fieldCountOf(bytes)
  let fields: unknown
  try {
    fields = cbor.decode(bytes.subarray(HEADER_BYTES))
  } catch (cause) {
    throw new CorruptError('bad-batch', `log batch: ${textOf(cause)}`, { cause })
  }
  return checkFields(fields, fieldCount)
}

function checkFields(fields: unknown, count: number): LogBatch {
  if (!Array.isArray(fields) || fields.length !== count)
    throw new CorruptError('bad-batch', `log batch: not ${count} fields`)
  const [session, epoch, nonce, counter, lastCounter, lastSeq, strings, definitions] = fields
  const [sampleCount, ids, times, values, histograms, exemplars, metadata] = fields.slice(8)
  const [starts, histogramStarts, exemplarPlaces, metadataPlaces] = fields.slice(FIELD_COUNT)
  const numbers = [epoch, counter, lastCounter, lastSeq, sampleCount]
  const columns = [session, strings, definitions, ids, times, histograms, exemplars, metadata]
  columns.push(...fields.slice(FIELD_COUNT))
  const isSound =
    numbers.every((value) => Number.isSafeInteger(value) && value >= 0) &&
    columns.every((value) => value instanceof Uint8Array) &&
    typeof nonce === 'string' &&
    values instanceof Float64Array &&
    session.length === SESSION_BYTES &&
    values.length === sampleCount
  if (!isSound) throw new CorruptError('bad-batch', 'log batch: a field has the wrong type')
  return {
    session,
    epoch,
    nonce,
    counter,
    lastCounter,
    lastSeq,
    strings,
    definitions,
    sampleCount,
    ids,
    times,
    values,
    histograms,
    exemplars,
    metadata,
    starts: areThere(starts),
    histogramStarts: areThere(histogramStarts),
    ...(count === FIELD_COUNT_PLACES && { exemplarPlaces, metadataPlaces }),
  }
}

/** A column without bytes says that no sample of its kind has a start time. */
function areThere(starts: Uint8Array | undefined): Uint8Array | undefined {
  return starts === undefined || starts.length === 0 ? undefined : starts
}
