// Remote read (`/api/v1/read`): samples of several selectors in Prometheus' protobuf, as one message or as a row of frames of chunks.
//
// Invariants
//   R1  A row of frames may be longer than any memory: what is held at a time are the label sets, the samples of some of them, and one piece.
import { RefusedError } from '../../shared/base/errors.ts'
import type { Bus } from '../../shared/bus/port.ts'
import { PIECE_BYTES_MAX, query, READ_CHUNKS, READ_SAMPLES } from '../../shared/contracts/query.ts'
import { compareLabels, labelsKey } from '../../shared/model/labels.ts'
import { SAMPLE_BYTES, SERIES_BYTES } from '../../shared/promql/memory.ts'
import type { SeriesSamples } from '../../shared/promql/source.ts'
import { cutChunks } from '../../shared/tsdb/block/chunk-cutting.ts'
import { checkPatterns } from '../../shared/tsdb/matcher-set.ts'
import {
  chunkFrames,
  decodeReadRequest,
  putResult,
  type ReadChunk,
  type ReadQuery,
  type ReadRequest,
} from '../../shared/wire/remote-read.ts'
import { compress, createDecompressor } from '../../shared/wire/snappy.ts'
import { Writer } from '../../shared/wire/varint.ts'
import type { Answer, AnswerKind, Asked } from './asked.ts'
import { type Account, Share } from './budget.ts'
import { labelSetsOf } from './label-queries.ts'
import type { SelectorBounds } from './params.ts'
import type { ReadScope } from './partition-reader.ts'
import { BatchSize, matchersOf } from './read-batches.ts'
import { tooLarge } from './reply.ts'
import type { WholeReader } from './whole-reader.ts'
import { wholeSource } from './whole-source.ts'

export interface RemoteReadDeps {
  readonly bus: Bus
  readonly reader: WholeReader
  readonly bounds: SelectorBounds
}

/** Of a request, decompressed. */
const REQUEST_BYTES_MAX = 32 * 1024 * 1024
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
    const out = new Writer(64 * 1024)
    for (const each of queries) {
      putResult(out, await select(each, scope, budget))
      if (out.length > query.replyBytesMax) throw tooLarge()
    }
    await pieces.put(compress(out.view()))
  }

  /** R1: series by series in the order of their labels, some at a time. What one batch reads is let go before the next. */
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
            const cut = { labels: series.labels, chunks: chunksOf(series) }
            for (const frame of chunkFrames(cut, { queryIndex, bytesMax: FRAME_BYTES_MAX })) await pieces.put(frame)
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
    const series = await source.select(matchers, { startMs, endMs, mode: 'all' }, scope)
    return series.sort((a, b) => compareLabels(a.labels, b.labels))
  }
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
  const request = decodeReadRequest(bytes, { queriesMax: selectorsMax })
  for (const { matchers } of request.queries) checkPatterns(matchers, patternSizeMax)
  if (request.queries.every(({ startMs, endMs }) => Number.isSafeInteger(startMs) && Number.isSafeInteger(endMs)))
    return request
  throw new RefusedError('err-carillon-bad-parameter', 'times of a remote read are whole milliseconds')
}

function chunksOf({ times, values, histograms }: SeriesSamples): readonly ReadChunk[] {
  const chunks: ReadChunk[] = []
  cutChunks({ times, values, histograms, start: 0, end: times.length }, (encoding, bytes, minTime, maxTime) => {
    chunks.push({ encoding, bytes: bytes.slice(), minTime, maxTime })
  })
  return chunks
}
