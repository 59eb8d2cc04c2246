// Remote read (`/api/v1/read`): samples of several selectors in Prometheus' protobuf, as one message or as a row of frames of chunks.
import { RefusedError } from '../../shared/base/errors.ts'
import type { Bus } from '../../shared/bus/port.ts'
import { query, READ_CHUNKS, READ_SAMPLES } from '../../shared/contracts/query.ts'
import { compareLabels } from '../../shared/model/labels.ts'
import type { SeriesSamples } from '../../shared/promql/source.ts'
import { cutChunks } from '../../shared/tsdb/block/chunk-cutting.ts'
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
import type { ReadScope } from './partition-reader.ts'
import { tooLarge } from './reply.ts'
import type { WholeReader } from './whole-reader.ts'
import { wholeSource } from './whole-source.ts'

export interface RemoteReadDeps {
  readonly bus: Bus
  readonly reader: WholeReader
  readonly selectorsMax: number
}

/** Of a request, decompressed. */
const REQUEST_BYTES_MAX = 32 * 1024 * 1024
/** Of the chunks in one frame, as Prometheus has it. */
const FRAME_BYTES_MAX = 1024 * 1024

export function remoteReadQueries({ bus, reader, selectorsMax }: RemoteReadDeps): Readonly<Record<'read', AnswerKind>> {
  return { read }

  async function read(asked: Asked): Promise<Answer> {
    const request = requestIn(asked.params.body ?? '', selectorsMax)
    return asked.run(undefined, async (scope) => {
      const isStreamed = request.shape === 'chunks'
      const parts = isStreamed ? await streamed(asked, request, scope) : await whole(asked, request, scope)
      return { data: undefined, raw: [Uint8Array.of(isStreamed ? READ_CHUNKS : READ_SAMPLES), ...parts] }
    })
  }

  async function whole(asked: Asked, { queries }: ReadRequest, scope: ReadScope): Promise<Uint8Array[]> {
    const out = new Writer(64 * 1024)
    for (const each of queries) {
      putResult(out, await select(asked, each, scope))
      if (out.length > query.replyBytesMax) throw tooLarge()
    }
    return [compress(out.view())]
  }

  async function streamed(asked: Asked, { queries }: ReadRequest, scope: ReadScope): Promise<Uint8Array[]> {
    const frames: Uint8Array[] = []
    let bytes = 0
    for (const [queryIndex, each] of queries.entries()) {
      for (const series of await select(asked, each, scope)) {
        const cut = { labels: series.labels, chunks: chunksOf(series) }
        for (const frame of chunkFrames(cut, { queryIndex, bytesMax: FRAME_BYTES_MAX })) {
          frames.push(frame)
          bytes += frame.length
        }
        if (bytes > query.replyBytesMax) throw tooLarge()
      }
    }
    return frames
  }

  async function select({ budget }: Asked, { matchers, startMs, endMs }: ReadQuery, scope: ReadScope) {
    const source = wholeSource({ bus, reader, scope, budget })
    const series = await source.select(matchers, { startMs, endMs, mode: 'all' }, scope)
    return series.sort((a, b) => compareLabels(a.labels, b.labels))
  }
}

const decompressor = createDecompressor()

function requestIn(body: string, selectorsMax: number): ReadRequest {
  const bytes = decompressor.decompress(Buffer.from(body, 'base64'), REQUEST_BYTES_MAX)
  const request = decodeReadRequest(bytes, { queriesMax: selectorsMax })
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
