// meta.json: what a block holds, with Prometheus' fields and a section of our own; and the name of a block, which its content decides.
//
// Nothing here knows a clock, a host or a version: the same samples of the same origin have the same meta.json and the same ULID.
import { hash } from 'node:crypto'
import { textOf } from '../../base/errors.ts'
import { ULID_DIGITS, ULID_SHAPE } from '../../model/ulid.ts'
import { sha256Of } from '../../wire/sha256.ts'
import { BlockCorruptError, META_FILE } from './files.ts'

/** A meta.json that is longer is damage: it lists a file per MiB of chunks. */
export const META_BYTES_MAX = 16 * 1024 * 1024

export interface BlockFile {
  readonly name: string
  readonly size: number
  /** 64 hex digits. */
  readonly sha256: string
}

/** What a writer counted. */
export interface BlockStats {
  /** Milliseconds; samples lie in [minTime, maxTime). Both 0 in a block without samples. */
  readonly minTime: number
  readonly maxTime: number
  readonly sampleCount: number
  readonly floatSampleCount: number
  readonly histogramSampleCount: number
  readonly seriesCount: number
  readonly chunkCount: number
  /** Of all files. */
  readonly bytes: number
  /** `index` and the chunk files, by name. */
  readonly files: readonly BlockFile[]
}

export interface BlockDescription {
  readonly ulid: string
  readonly minTime: number
  readonly maxTime: number
}

/** meta.json as Prometheus has it. Counts that are 0 may be absent there. */
export interface BlockMeta {
  readonly ulid: string
  readonly minTime: number
  readonly maxTime: number
  readonly stats: {
    readonly numSamples?: number
    readonly numFloatSamples?: number
    readonly numHistogramSamples?: number
    readonly numSeries?: number
    readonly numChunks?: number
    readonly numTombstones?: number
  }
  readonly compaction: {
    readonly level: number
    readonly sources?: readonly string[]
    readonly parents?: readonly BlockDescription[]
    readonly hints?: readonly string[]
  }
  readonly version: 1
  readonly carillon?: CarillonSection
}

export interface CarillonSection {
  /** Every file of the block but meta.json, by name. */
  readonly files: readonly BlockFile[]
  readonly origin: Origin
  /** 0: raw samples. Else the window of downsampled data, ms. */
  readonly resolutionMs: number
}

/** Where the samples came from: a flat record, written with sorted keys. */
export type Origin = Readonly<Record<string, string | number>>

export interface NewBlock {
  readonly tenant: string
  readonly stats: BlockStats
  readonly origin: Origin
  /** 1 for a block cut from a log. */
  readonly level: number
  /** The level-1 blocks that went in; absent: this one. */
  readonly sources?: readonly string[]
  readonly parents?: readonly BlockDescription[]
  /** Default 0. */
  readonly resolutionMs?: number
  /** Files beside those of the writer, such as tombstones, and how many tombstones they hold. */
  readonly moreFiles?: readonly BlockFile[]
  readonly tombstoneCount?: number
}

/** The meta.json of a block just written. */
export function blockMeta(block: NewBlock): BlockMeta {
  const { stats, level, parents, tombstoneCount = 0, resolutionMs = 0 } = block
  const files = [...stats.files, ...(block.moreFiles ?? [])].sort((a, b) => (a.name < b.name ? -1 : 1))
  const origin = sortedOrigin(block.origin)
  const ulid = blockUlid({ tenant: block.tenant, minTime: stats.minTime, origin, files })
  return {
    ulid,
    minTime: stats.minTime,
    maxTime: stats.maxTime,
    stats: {
      numSamples: stats.sampleCount,
      numFloatSamples: stats.floatSampleCount,
      numHistogramSamples: stats.histogramSampleCount,
      numSeries: stats.seriesCount,
      numChunks: stats.chunkCount,
      ...(tombstoneCount > 0 ? { numTombstones: tombstoneCount } : {}),
    },
    compaction: {
      level,
      sources: block.sources === undefined ? [ulid] : [...block.sources].sort(),
      ...(parents === undefined ? {} : { parents }),
    },
    version: 1,
    carillon: { files, origin, resolutionMs },
  }
}

/** The bytes of meta.json. */
export function metaBytes(meta: BlockMeta): Uint8Array<ArrayBuffer> {
  return new TextEncoder().encode(`${JSON.stringify(meta, null, '\t')}\n`)
}

/** Throws CorruptError for what is no meta.json of version 1. Sections of others are left out. */
export function parseMeta(bytes: Uint8Array): BlockMeta {
  if (bytes.length > META_BYTES_MAX) throw badMeta(`has ${bytes.length} bytes, at most ${META_BYTES_MAX} are read`)
  let json: unknown
  try {
    json = JSON.parse(new TextDecoder('utf-8', { fatal: true }).decode(bytes))
  } catch (error) {
    throw badMeta(textOf(error), error)
  }
  const meta = recordOf(json, 'it')
  if (meta['version'] !== 1) throw badMeta(`version is ${String(meta['version'])}, only 1 is known`)
  if (typeof meta['ulid'] !== 'string' || !ULID_SHAPE.test(meta['ulid'])) throw badMeta('ulid is none')
  const minTime = wholeOf(meta, 'minTime')
  const maxTime = wholeOf(meta, 'maxTime')
  if (maxTime < minTime) throw badMeta(`maxTime ${maxTime} is before minTime ${minTime}`)
  const compaction = recordOf(meta['compaction'], 'compaction')
  const carillon = meta['carillon'] === undefined ? {} : { carillon: sectionOf(meta['carillon']) }
  const parents = compaction['parents']
  return {
    ulid: meta['ulid'],
    minTime,
    maxTime,
    stats: statsOf(meta['stats'] ?? {}),
    compaction: {
      level: wholeOf(compaction, 'level'),
      ...(compaction['sources'] === undefined ? {} : { sources: textsOf(compaction['sources'], 'sources') }),
      ...(parents === undefined ? {} : { parents: listOf(parents, 'parents').map(descriptionOf) }),
      ...(compaction['hints'] === undefined ? {} : { hints: textsOf(compaction['hints'], 'hints') }),
    },
    version: 1,
    ...carillon,
  }
}

/** How long the windows are that a block holds in place of samples, ours or Thanos'; 0: it holds samples. */
export function windowMsOf({ carillon }: BlockMeta, metaJson: Uint8Array): number {
  const { thanos } = JSON.parse(new TextDecoder().decode(metaJson)) as {
    thanos?: { downsample?: { resolution?: unknown } | null } | null
  }
  return (carillon?.resolutionMs ?? 0) || Number(thanos?.downsample?.resolution ?? 0)
}

export interface UlidSource {
  readonly tenant: string
  /** Milliseconds; times before 1970 count as 0. */
  readonly minTime: number
  readonly origin: Origin
  /** Every file but meta.json. */
  readonly files: readonly BlockFile[]
}

const ULID_TIME_MAX = 2 ** 48 - 1

/** The name of a block: its earliest time, then 80 bits of SHA-256 over tenant, origin and files. */
export function blockUlid({ tenant, minTime, origin, files }: UlidSource): string {
  const sorted = [...files].sort((a, b) => (a.name < b.name ? -1 : 1))
  const text = JSON.stringify([tenant, sortedOrigin(origin), sorted.map(({ name, sha256 }) => [name, sha256])])
  const digest = hash('sha256', text, 'buffer')
  let bits = BigInt(Math.min(ULID_TIME_MAX, Math.max(0, minTime)))
  for (let i = 0; i < 10; i++) bits = bits * 256n + BigInt(digest[i]!)
  let ulid = ''
  for (let i = 0; i < 26; i++) {
    ulid = ULID_DIGITS[Number(bits & 31n)] + ulid
    bits >>= 5n
  }
  return ulid
}

export function fileOf(name: string, bytes: Uint8Array): BlockFile {
  return { name, size: bytes.length, sha256: sha256Of(bytes) }
}

function sortedOrigin(origin: Origin): Origin {
  return Object.fromEntries(Object.entries(origin).sort(([a], [b]) => (a < b ? -1 : 1)))
}

function badMeta(text: string, cause?: unknown): BlockCorruptError {
  return new BlockCorruptError(META_FILE, 0, text, { cause })
}

function statsOf(json: unknown): BlockMeta['stats'] {
  const given = recordOf(json, 'stats')
  const names = ['numSamples', 'numFloatSamples', 'numHistogramSamples', 'numSeries', 'numChunks', 'numTombstones']
  return Object.fromEntries(
    names.filter((name) => given[name] !== undefined).map((name) => [name, wholeOf(given, name)]),
  )
}

function sectionOf(json: unknown): CarillonSection {
  const section = recordOf(json, 'carillon')
  const origin = recordOf(section['origin'], 'carillon.origin')
  for (const [key, value] of Object.entries(origin)) {
    if (typeof value !== 'string' && typeof value !== 'number')
      throw badMeta(`carillon.origin.${key} is no text or number`)
  }
  return {
    files: listOf(section['files'], 'carillon.files').map(blockFileOf),
    origin: origin as Origin,
    resolutionMs: wholeOf(section, 'resolutionMs'),
  }
}

function blockFileOf(json: unknown): BlockFile {
  const file = recordOf(json, 'a file')
  const { name, sha256 } = file
  if (typeof name !== 'string' || !/^(index|tombstones|chunks\/\d{6,10})$/.test(name))
    throw badMeta('a file has a name that no block has')
  if (typeof sha256 !== 'string' || !/^[0-9a-f]{64}$/.test(sha256)) throw badMeta(`the SHA-256 of ${name} is none`)
  return { name, size: wholeOf(file, 'size'), sha256 }
}

function descriptionOf(json: unknown): BlockDescription {
  const given = recordOf(json, 'a parent')
  return { ulid: String(given['ulid']), minTime: wholeOf(given, 'minTime'), maxTime: wholeOf(given, 'maxTime') }
}

function recordOf(json: unknown, what: string): Record<string, unknown> {
  if (typeof json !== 'object' || json === null || Array.isArray(json)) throw badMeta(`${what} is no object`)
  return json as Record<string, unknown>
}

function listOf(json: unknown, what: string): readonly unknown[] {
  if (!Array.isArray(json)) throw badMeta(`${what} is no list`)
  return json
}

function textsOf(json: unknown, what: string): string[] {
  const list = listOf(json, what)
  if (!list.every((one) => typeof one === 'string')) throw badMeta(`${what} holds something else than text`)
  return list as string[]
}

function wholeOf(record: Record<string, unknown>, name: string): number {
  const value = record[name]
  if (!Number.isSafeInteger(value)) throw badMeta(`${name} is no whole number`)
  return value as number
}
