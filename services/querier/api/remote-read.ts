// Remote read (`/api/v1/read`): samples of several selectors in Prometheus' protobuf, as one message or as a row of frames of chunks.
//
// Invariants
//   READ-1  A row of frames may be longer than any memory: what is held at a time are the label sets, the samples of some of them, and one piece.
import type { Breath } from '../../../shared/base/breathing.ts'
import { RefusedError } from '../../../shared/base/errors.ts'
import type { Bus } from '../../../shared/bus/port.ts'
import { PIECE_BYTES_MAX, query, READ_CHUNKS, READ_SAMPLES } from '../../../shared/contracts/query.ts'
import { labelsKey } from '../../../shared/model/labels.ts'
import { sortedByLabels } from '../../../shared/promql/exec/labels.ts'
import { SAMPLE_BYTES, SERIES_BYTES } from '../../../shared/promql/memory.ts'
import type { SeriesSamples } from '../../../shared/promql/source.ts'
import { cutChunks } from '../../../shared/tsdb/block/chunk-cutting.ts'
import { checkPatterns } from '../../../shared/tsdb/matcher-set.ts'
import {
  chunkFrames,
  decodeReadRequest,
  messageHead,
  type ReadChunk,
  type ReadQuery,
  type ReadRequest,
  timeSeriesPieces,
} from '../../../shared/wire/remote-read.ts'
import { compress, createDecompressor } from '../../../shared/wire/snappy.ts'
import { Writer } from '../../../shared/wire/varint.ts'
import { type Account, Share } from '../limits/budget.ts'
import type { ReadScope } from '../read/partition-reader.ts'
import { BatchSize, matchersOf } from '../read/read-batches.ts'
import { wholeSource } from '../read/series-source.ts'
import type { WholeReader } from '../read/tenant-reader.ts'
import { labelSetsOf } from './label-queries.ts'
import type { SelectorBounds } from './params.ts'
import type { Answer, AnswerKind, Asked } from './query-kind.ts'
import { tooLarge } from './response.ts'

export interface RemoteReadDeps {
  readonly bus: Bus
  readonly reader: WholeReader
  readonly bounds: SelectorBounds
}

/** Of a request, decompressed. */
const REQUEST_BYTES_MAX = 2 * 1024 * 1024
/** Of all queries in it. */
const MATCHERS_MAX = 10_000
/** Of samples that are held at a time. */
const BATCH_BYTES = 8 * 1024 * 1024
const PIECE_BYTES_WANTED = 256 * 1024
/** Of the chunks in one frame, as Prometheus has it. */
const FRAME_BYTES_MAX = 1024 * 1024

export function remoteReadQueries(deps: RemoteReadDeps): Readonly<Record<'read', AnswerKind>> {
  const { bus, reader, bounds } = deps
  return { read }

  async function read(asked: Asked): Promise<Answer> {
    const request = requestIn(asked.params.body ?? '', bounds)
    const isStreamed = request.shape === 'chunks'
    return asked.run(undefined, async (scope) => {
      const pieces = new Pieces(isStreamed ? READ_CHUNKS : READ_SAMPLES, asked.give)
      await (isStreamed ? streamed : whole)(asked, request, scope, pieces)
      return { data: undefined, raw: await pieces.end() }
    })
  }

  async function whole({ budget }: Asked, { queries }: ReadRequest, scope: ReadScope, pieces: Pieces): Promise<void> {
    const { breath } = scope
    const message = new Message(budget)
    for (const each of queries) {
      const start = message.begin()
      for (const series of await select(each, scope, budget)) {
        const seriesStart = message.begin()
        for (const piece of timeSeriesPieces(series)) {
          message.add(piece)
          if (breath.isDue(ENCODE_WORK * piece.length)) await breath.breathe()
        }
        message.end(seriesStart)
      }
      message.end(start)
    }
    await message.leave(pieces, breath)
  }

  /** READ-1: series by series in the order of their labels, some at a time. What one batch reads is let go before the next. */
  async function streamed(
    { budget }: Asked,
    { queries }: ReadRequest,
    scope: ReadScope,
    pieces: Pieces,
  ): Promise<void> {
    for (const [queryIndex, each] of queries.entries()) {
      const { matchers, startMs, endMs } = each
      const listed = new Share(budget)
      const all = await labelSetsOf(deps, { selectors: [matchers], startMs, endMs, limit: 0 }, scope, listed)
      const size = new BatchSize(BATCH_BYTES)
      for (let at = 0; at < all.length; ) {
        const batch = all.slice(at, at + size.series)
        const share = new Share(budget)
        try {
          const narrowed = { ...each, matchers: [...matchers, ...matchersOf(batch)] }
          const read = await select(narrowed, scope, share).catch((error: unknown) => {
            if (isTooMuch(error) && size.shrink()) return undefined
            throw error
          })
          if (read === undefined) continue
          at += batch.length
          size.learn(read.reduce((sum, { times }) => sum + SERIES_BYTES + SAMPLE_BYTES * times.length, 0))
          const keys = new Set(batch.map(labelsKey))
          for (const series of read) {
            if (!keys.has(labelsKey(series.labels))) continue
            const cut = { labels: series.labels, chunks: await chunksOf(series, scope.breath) }
            for (const frame of chunkFrames(cut, { queryIndex, bytesMax: FRAME_BYTES_MAX })) {
              await pieces.put(frame)
              if (scope.breath.isDue(ENCODE_WORK * frame.length)) await scope.breath.breathe()
            }
          }
        } finally {
          share.giveBack()
        }
      }
      listed.giveBack()
    }
  }

  async function select({ matchers, startMs, endMs }: ReadQuery, scope: ReadScope, budget: Account) {
    const source = wholeSource({ bus, reader, scope, budget })
    return sortedByLabels(await source.select(matchers, { startMs, endMs, mode: 'all' }, scope), scope.breath)
  }
}

/** Of encoding a byte, in units of work. */
const ENCODE_WORK = 5
/** Compressed at once. A piece refers to nothing before it, so what pieces become can stand one behind the other. */
const COMPRESSED_BYTES = 64 * 1024

/** A ReadResponse, put together from pieces; what stands before a message is known when it has ended. */
class Message {
  private readonly account: Account
  private readonly parts: Uint8Array[] = []
  private bytes = 0

  constructor(account: Account) {
    this.account = account
  }

  /** A message begins inside. */
  begin(): { readonly at: number; readonly bytes: number } {
    this.parts.push(NO_BYTES)
    return { at: this.parts.length - 1, bytes: this.bytes }
  }

  end({ at, bytes }: { readonly at: number; readonly bytes: number }): void {
    const head = messageHead(this.bytes - bytes)
    this.parts[at] = head
    this.count(head.length)
  }

  add(piece: Uint8Array): void {
    this.parts.push(piece)
    this.count(piece.length)
  }

  /** Compressed with snappy. */
  async leave(pieces: Pieces, breath: Breath): Promise<void> {
    const head = new Writer(16)
    head.uvarint(this.bytes)
    await pieces.put(head.finish())
    const block = new Uint8Array(COMPRESSED_BYTES)
    let filled = 0
    for (const part of this.parts) {
      for (let at = 0; at < part.length; ) {
        const some = part.subarray(at, at + COMPRESSED_BYTES - filled)
        block.set(some, filled)
        filled += some.length
        at += some.length
        if (filled < COMPRESSED_BYTES) continue
        await pieces.put(compressedBlock(block))
        filled = 0
        if (breath.isDue(ENCODE_WORK * COMPRESSED_BYTES)) await breath.breathe()
      }
    }
    if (filled > 0) await pieces.put(compressedBlock(block.subarray(0, filled)))
  }

  private count(bytes: number): void {
    this.bytes += bytes
    if (this.bytes > query.replyBytesMax) throw tooLarge()
    this.account.hold(bytes)
  }
}

const NO_BYTES = new Uint8Array(0)

/** Without the length before it. */
function compressedBlock(bytes: Uint8Array): Uint8Array {
  const compressed = compress(bytes)
  let at = 0
  while (compressed[at]! >= 128) at++
  return compressed.slice(at + 1)
}

/** The bytes of an answer, given away in pieces or, where nobody takes those, gathered up to what one reply may have. */
class Pieces {
  private readonly give: (piece: Uint8Array) => Promise<void>
  private readonly gathered: Uint8Array[] = []
  private gatheredBytes = 0
  private piece: Uint8Array[]
  private pieceBytes = 1

  constructor(kind: number, give: Asked['give']) {
    this.give = give ?? (async (piece) => this.gather(piece))
    this.piece = [Uint8Array.of(kind)]
  }

  async put(bytes: Uint8Array): Promise<void> {
    for (let at = 0; at < bytes.length; ) {
      const part = bytes.subarray(at, at + PIECE_BYTES_MAX - this.pieceBytes)
      this.piece.push(part)
      this.pieceBytes += part.length
      at += part.length
      if (this.pieceBytes >= PIECE_BYTES_WANTED) await this.leave()
    }
  }

  async end(): Promise<readonly Uint8Array[]> {
    if (this.pieceBytes > 0) await this.leave()
    return this.gathered
  }

  private async leave(): Promise<void> {
    const piece = Buffer.concat(this.piece)
    this.piece = []
    this.pieceBytes = 0
    await this.give(piece)
  }

  private gather(piece: Uint8Array): void {
    this.gathered.push(piece)
    this.gatheredBytes += piece.length
    if (this.gatheredBytes > query.replyBytesMax) throw tooLarge()
  }
}

const isTooMuch = (error: unknown) => error instanceof RefusedError && error.status === 422

const decompressor = createDecompressor()

function requestIn(body: string, { selectorsMax, patternSizeMax }: SelectorBounds): ReadRequest {
  const bytes = decompressor.decompress(Buffer.from(body, 'base64'), REQUEST_BYTES_MAX)
  const request = decodeReadRequest(bytes, { queriesMax: selectorsMax, matchersMax: MATCHERS_MAX })
  for (const { matchers } of request.queries) checkPatterns(matchers, patternSizeMax)
  if (request.queries.every(({ startMs, endMs }) => Number.isSafeInteger(startMs) && Number.isSafeInteger(endMs)))
    return request
  throw new RefusedError('err-carillon-bad-parameter', 'times of a remote read are whole milliseconds')
}

async function chunksOf({ times, values, histograms }: SeriesSamples, breath: Breath): Promise<readonly ReadChunk[]> {
  const chunks: ReadChunk[] = []
  for (let start = 0; start < times.length; start += CUT_SAMPLES) {
    const end = Math.min(times.length, start + CUT_SAMPLES)
    cutChunks({ times, values, histograms, start, end }, (encoding, bytes, minTime, maxTime) => {
      chunks.push({ encoding, bytes: bytes.slice(), minTime, maxTime })
    })
    if (breath.isDue((end - start) * (histograms === undefined ? CUT_WORK : HISTOGRAM_WORK))) await breath.breathe()
  }
  return chunks
}

/** Cut at once: a multiple of what a full chunk has. Of a float and of a histogram, in units of work. */
const CUT_SAMPLES = 6_000
const CUT_WORK = 50
const HISTOGRAM_WORK = 1_000
