// Cuts a series' samples into chunks canonically: the same samples give the same chunks, wherever they came from.
//
// A chunk has at most 120 samples of one kind. Its encoding keeps start times only where one of its samples has one. A chunk of histograms also ends at 48 KiB and where the next one does not fit: another
// layout, a counter reset, a sample behind a stale one (chunk/histogram.ts).
import { HistogramChunkWriter, isHistogramEncoding } from '../chunk/histogram.ts'
import { ENCODING_XOR, encodeXor, wordsOf, xorBytesMax } from '../chunk/xor.ts'
import { ENCODING_XOR2, encodeXor2 } from '../chunk/xor2.ts'
import { hasStarts, type SampleRun } from '../columns.ts'
import { isFloatEncoding } from '../decode.ts'
import { HISTOGRAM_CHUNK_BYTES_MAX } from '../head/late-samples.ts'
import { continuesWithoutReset } from './counter-resets.ts'

export const SAMPLES_PER_CHUNK = 120

export type ChunkSink = (encoding: number, bytes: Uint8Array, minTime: number, maxTime: number, count: number) => void

const scratch = new Uint8Array(xorBytesMax(SAMPLES_PER_CHUNK))

/** Gives the sink the chunks of a run, whose times rise strictly. The bytes are valid during the call. */
export function cutChunks(run: SampleRun, sink: ChunkSink): void {
  const words = wordsOf(run.values)
  let at = run.start
  while (at < run.end) {
    if (run.histograms?.[at] !== undefined) {
      at = cutHistogramChunk(run, at, sink)
      continue
    }
    const to = endOfFloats(run, at)
    const minTime = run.times[at]!
    const maxTime = run.times[to - 1]!
    if (hasStarts(run, at, to)) {
      sink(ENCODING_XOR2, encodeXor2(run.times, words, run.startTimes!, at, to), minTime, maxTime, to - at)
    } else {
      const length = encodeXor(run.times, words, at, to, scratch, 0)
      sink(ENCODING_XOR, scratch.subarray(0, length), minTime, maxTime, to - at)
    }
    at = to
  }
}

function endOfFloats(run: SampleRun, from: number): number {
  const most = Math.min(run.end, from + SAMPLES_PER_CHUNK)
  if (run.histograms === undefined) return most
  let to = from + 1
  while (to < most && run.histograms[to] === undefined) to++
  return to
}

function cutHistogramChunk(run: SampleRun, from: number, sink: ChunkSink): number {
  const { times, histograms, startTimes } = run
  const first = histograms![from]!
  const before = from > run.start ? histograms![from - 1] : undefined
  const isContinuation = before !== undefined && continuesWithoutReset(before, first)
  const most = Math.min(run.end, from + SAMPLES_PER_CHUNK)
  const start = hasStarts(run, from, most) ? startTimes![from]! : undefined
  const writer = new HistogramChunkWriter(times[from]!, first, { isContinuation, start })
  let to = from + 1
  for (; to < most && writer.byteCount < HISTOGRAM_CHUNK_BYTES_MAX; to++) {
    const next = histograms![to]
    if (next === undefined || !writer.accepts(next)) break
    writer.append(times[to]!, next, startTimes?.[to])
  }
  sink(writer.encoding, writer.finish(), times[from]!, times[to - 1]!, to - from)
  return to
}

export function isKnownEncoding(encoding: number): boolean {
  return isFloatEncoding(encoding) || isHistogramEncoding(encoding)
}
