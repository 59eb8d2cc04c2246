// The answers of several partitions and blocks as one list, each label set once. What one source holds of a series is merged with what the
// others do (LOG-11).
import type { Breath } from '../../../shared/base/breathing.ts'
import { sortLong, sortLongFloats } from '../../../shared/base/long-sort.ts'
import type { Labels } from '../../../shared/model/labels.ts'
import { SAMPLE_BYTES, SERIES_BYTES } from '../../../shared/promql/memory.ts'
import type { SeriesSamples } from '../../../shared/promql/source.ts'
import { SampleColumns, type SampleRun } from '../../../shared/tsdb/columns.ts'
import { mergeRuns } from '../../../shared/tsdb/merge.ts'

/** Of looking a series up, and of merging a sample, in units of work. */
const SERIES_WORK = 200
const SAMPLE_WORK = 5

export interface Answer {
  readonly series: SeriesSamples[]
  /** One per series, equal for equal label sets of any answer. */
  readonly hashes: readonly number[]
  /** Of projected series: the other halves of the hashes. */
  readonly otherHashes: readonly number[]
}

/** Answers made with `isHashed` (or only one).
 *  @param hold told of memory before it is taken */
export async function unite(
  answers: readonly Answer[],
  breath: Breath,
  hold: (bytes: number) => void = () => {},
): Promise<Answer> {
  const filled = answers.filter((answer) => answer.series.length > 0)
  if (filled.length <= 1) return filled[0] ?? { series: [], hashes: [], otherHashes: [] }
  const total = filled.reduce((sum, answer) => sum + answer.series.length, 0)
  const mask = 2 ** Math.ceil(Math.log2(total * 2)) - 1
  hold(4 * (mask + 1) + 24 * total)
  const slots = new Int32Array(mask + 1) // 1 + index into `united`; 0 is free
  const united: SeriesSamples[] = []
  const hashes: number[] = []
  const otherHashes: number[] = [] // of projected series, whose labels alone do not tell them apart
  const again = new Map<number, SeriesSamples[]>()
  for (const answer of filled) {
    for (let s = 0; s < answer.series.length; s++) {
      const series = answer.series[s]!
      const hash = answer.hashes[s]!
      const otherHash = answer.otherHashes[s]
      if (breath.isDue(SERIES_WORK)) await breath.breathe()
      let slot = (hash ^ (hash >>> 15)) & mask
      while (slots[slot] !== 0 && !isSame(slots[slot]! - 1, hash, otherHash, series.labels)) slot = (slot + 1) & mask
      if (slots[slot] === 0) {
        slots[slot] = united.push(series)
        hashes.push(hash)
        if (otherHash !== undefined) otherHashes.push(otherHash)
      } else {
        const index = slots[slot]! - 1
        const others = again.get(index)
        if (others === undefined) again.set(index, [series])
        else others.push(series)
      }
    }
  }
  for (const [index, others] of again) {
    const parts = [united[index]!, ...others]
    const sampleCount = parts.reduce((sum, { times }) => sum + times.length, 0)
    hold(SERIES_BYTES + SAMPLE_BYTES * sampleCount)
    united[index] = merged(parts)
    if (breath.isDue(SERIES_WORK + SAMPLE_WORK * sampleCount)) await breath.breathe()
  }
  return { series: united, hashes, otherHashes }

  function isSame(index: number, hash: number, otherHash: number | undefined, labels: Labels): boolean {
    return hashes[index] === hash && otherHashes[index] === otherHash && areEqual(united[index]!.labels, labels)
  }
}

export function areEqual(a: Labels, b: Labels): boolean {
  if (a.length !== b.length) return false
  for (let i = 0; i < a.length; i++) if (a[i] !== b[i]) return false
  return true
}

function merged(parts: readonly SeriesSamples[]): SeriesSamples {
  const inOrder = parts.length > 1 ? joinedInOrder(parts) : undefined
  if (inOrder !== undefined) return inOrder
  const columns = new SampleColumns()
  mergeRuns(
    parts.map(({ times, values, histograms, startTimes }): SampleRun => {
      return { times, values, histograms, startTimes, start: 0, end: times.length }
    }),
    columns,
  )
  const times = columns.times.slice(0, columns.count)
  const values = columns.values.slice(0, columns.count)
  const { histograms } = columns
  const startTimes = columns.startTimes?.slice(0, columns.count)
  return {
    labels: parts[0]!.labels,
    times,
    values,
    ...(histograms && { histograms }),
    ...(startTimes && { startTimes }),
  }
}

/** Floats without start times of parts that follow each other in time, as those of blocks mostly do, are copied as they stand. */
function joinedInOrder(parts: readonly SeriesSamples[]): SeriesSamples | undefined {
  const runs: { times: Float64Array; values: Float64Array }[] = []
  let count = 0
  for (const { times, values, histograms, startTimes } of parts) {
    if (histograms !== undefined || startTimes !== undefined) return undefined
    if (times.length === 0) continue
    runs.push({ times, values })
    count += times.length
  }
  runs.sort((a, b) => a.times[0]! - b.times[0]!)
  for (let i = 1; i < runs.length; i++) if (runs[i]!.times[0]! <= runs[i - 1]!.times.at(-1)!) return undefined
  const times = new Float64Array(count)
  const values = new Float64Array(count)
  let at = 0
  for (const run of runs) {
    times.set(run.times, at)
    values.set(run.values, at)
    at += run.times.length
  }
  return { labels: parts[0]!.labels, times, values }
}

/** Series above this many in one answer leave no room for their index beside a hash in a float. */
const INDEX_MAX = 2 ** 21

/** In the order of the hashes of their full label sets: what orders series whose labels were left behind. */
export async function sortedByHashes(
  { series, hashes, otherHashes }: Answer,
  breath: Breath,
): Promise<SeriesSamples[]> {
  const isBefore = (a: number, b: number) => hashes[a]! - hashes[b]! || otherHashes[a]! - otherHashes[b]!
  if (series.length > INDEX_MAX) {
    const order = await sortLong(
      series.map((_, i) => i),
      isBefore,
      breath,
    )
    return order.map((i) => series[i]!)
  }
  const unsorted = new Float64Array(series.length)
  for (let i = 0; i < unsorted.length; i++) unsorted[i] = hashes[i]! * INDEX_MAX + i
  const keys = await sortLongFloats(unsorted, breath)
  const order = new Uint32Array(keys.length)
  for (let i = 0; i < keys.length; i++) {
    const index = keys[i]! % INDEX_MAX
    let at = i
    if (i > 0 && keys[i]! - keys[i - 1]! < INDEX_MAX) {
      // only then first halves can be equal, which is rare
      for (; at > 0 && isBefore(index, order[at - 1]!) < 0; at--) order[at] = order[at - 1]!
    }
    order[at] = index
  }
  return Array.from(order, (index) => series[index]!)
}
