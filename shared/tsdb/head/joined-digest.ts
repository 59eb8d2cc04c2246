// The digest of parts that are one (parts.ts): what stands in several of them counts once, by LOG-11, as in an owner that has it in one.
import { ALL_TIME } from '../../model/interval.ts'
import { SampleColumns } from '../columns.ts'
import { canonicalBytes } from '../histogram-order.ts'
import { mergeRuns } from '../merge.ts'
import { digestsOfHistogram, kindOf, tally } from './digest.ts'
import type { SeriesChunks } from './series-chunks.ts'

const time = new Float64Array(1)
const timeWords = new Uint32Array(time.buffer)
const hash = new Uint32Array(2)

/** The sums of the first `count` series over these parts. Decodes all of them. */
export function joinedSums(samples: SeriesChunks, count: number, parts: ReadonlySet<number>): Int32Array {
  const sums = new Int32Array(2)
  const merged = new SampleColumns()
  for (let ref = 0; ref < count; ref++) {
    const runs = samples.overlapping(ref, ALL_TIME).flatMap((slot) => {
      if (!parts.has(samples.chunks.segment[slot]!)) return []
      const columns = new SampleColumns()
      samples.read(slot, ALL_TIME, columns)
      return [columns.asRun()]
    })
    merged.clear()
    mergeRuns(runs, merged)
    samples.hashInto(ref, hash, 0)
    addTo(sums, merged)
  }
  return sums
}

function addTo(sums: Int32Array, { times, words, histograms, startTimes, count }: SampleColumns): void {
  for (let i = 0; i < count; i++) {
    time[0] = times[i]!
    const histogram = histograms?.[i]
    const [low, high] =
      histogram === undefined ? [words[2 * i]!, words[2 * i + 1]!] : digestsOfHistogram(canonicalBytes(histogram))
    const kind = kindOf(histogram === undefined ? 0 : 1, startTimes?.[i] ?? 0)
    tally(sums, 1, hash[0]!, hash[1]!, timeWords[0]!, timeWords[1]!, low, high, kind)
  }
}
