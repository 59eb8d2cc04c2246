// Windows of a series: what a day of samples was in each 5 minutes or hour (docs/formats/downsampled.md).
//
// A window holds the samples with times in [k·R, (k + 1)·R). Its values stand at the time of the last sample in it, each in the block of its
// aggregate: count, sum, min, max and last of what is not stale; counter: the sum of all increases since the block's first sample, added
// to that sample, so it never falls, and before all windows that first sample itself, so that days can be joined. A window that ends stale has the stale marker as `last`. In a window with floats and histograms,
// those of the last one's kind count.
//
// Histograms have count (a float), sum, last and counter (histograms of float counts); a gauge among them has no counter.
import type { Aggregate } from '../../../shared/contracts/blocks.ts'
import { type Histogram, isStaleHistogram } from '../../../shared/model/histogram.ts'
import { isStaleAt } from '../../../shared/model/sample.ts'
import { add, isHistogramReset, scale, subtract } from '../../../shared/promql/functions/histogram-math.ts'
import { wordsOf } from '../../../shared/tsdb/chunk/xor.ts'
import { SampleColumns, type SampleRun } from '../../../shared/tsdb/columns.ts'

const columns = {
  count: new SampleColumns(512),
  sum: new SampleColumns(512),
  min: new SampleColumns(512),
  max: new SampleColumns(512),
  last: new SampleColumns(512),
  counter: new SampleColumns(512),
} satisfies Record<Aggregate, SampleColumns>
const order = Object.keys(columns) as Aggregate[]

const float = new Float64Array(1)
const floatWords = wordsOf(float)

/** The windows of a run, one run per aggregate: valid until the next call. Start times are left behind. */
export function windowsOf(samples: SampleRun, resolutionMs: number): [Aggregate, SampleRun][] {
  const run = { ...samples, startTimes: undefined }
  for (const aggregate of order) columns[aggregate].clear()
  const words = wordsOf(run.values)
  const floats = new FloatCounter()
  const histograms = new HistogramCounter()
  let from = run.start
  while (from < run.end) {
    const endMs = (Math.floor(run.times[from]! / resolutionMs) + 1) * resolutionMs
    let to = from + 1
    while (to < run.end && run.times[to]! < endMs) to++
    columns.last.pushFrom(run, words, to - 1)
    if (run.histograms?.[to - 1] === undefined) floatWindow(run, words, from, to, floats)
    else histogramWindow(run, from, to, histograms)
    from = to
  }
  return order.map((aggregate) => [aggregate, columns[aggregate].asRun()])
}

function push(aggregate: Aggregate, time: number, value: number): void {
  float[0] = value
  columns[aggregate].pushBits(time, floatWords[0]!, floatWords[1]!)
}

// ---- floats ----

class FloatCounter {
  total = 0
  private before: number | undefined

  take(value: number): void {
    if (Number.isNaN(value)) return
    if (this.before === undefined) this.total = value
    else this.total += value < this.before ? value : value - this.before
    this.before = value
  }

  get isBegun(): boolean {
    return this.before !== undefined
  }
}

function floatWindow(run: SampleRun, words: Uint32Array, from: number, to: number, counter: FloatCounter): void {
  const time = run.times[to - 1]!
  let count = 0
  let sum = 0
  let rest = 0
  let min = Number.NaN
  let max = Number.NaN
  for (let i = from; i < to; i++) {
    if (run.histograms?.[i] !== undefined || isStaleAt(words, i)) continue
    const value = run.values[i]!
    count++
    // Neumaier's sum: the error of a day of windows is that of one addition.
    const next = sum + value
    rest += Math.abs(sum) >= Math.abs(value) ? sum - next + value : value - next + sum
    sum = next
    if (!(value >= min)) min = Number.isNaN(value) && !Number.isNaN(min) ? min : value
    if (!(value <= max)) max = Number.isNaN(value) && !Number.isNaN(max) ? max : value
    const isFirst = !counter.isBegun
    counter.take(value)
    if (isFirst && counter.isBegun && i < to - 1) push('counter', run.times[i]!, value)
  }
  if (count === 0) return
  push('count', time, count)
  push('sum', time, Number.isFinite(rest) ? sum + rest : sum)
  push('min', time, min)
  push('max', time, max)
  if (counter.isBegun) push('counter', time, counter.total)
}

// ---- histograms ----

class HistogramCounter {
  total: Histogram | undefined
  private before: Histogram | undefined

  take(histogram: Histogram): void {
    const { before, total } = this
    if (before === undefined || total === undefined || !isAlike(total, histogram)) {
      this.total = { ...scale(histogram, 1), resetHint: 'unknown' } // what falls here is a reset to whoever reads it
    } else {
      const increase = isHistogramReset(histogram, before) ? histogram : subtract(histogram, before, notes())
      this.total = { ...add(total, increase, notes()), resetHint: 'unknown' }
    }
    this.before = histogram
  }
}

function histogramWindow(run: SampleRun, from: number, to: number, counter: HistogramCounter): void {
  const time = run.times[to - 1]!
  let count = 0
  let sum: Histogram | undefined
  let isGauge = false
  for (let i = from; i < to; i++) {
    const histogram = run.histograms?.[i]
    if (histogram === undefined || isStaleHistogram(histogram)) continue
    count++
    isGauge ||= histogram.resetHint === 'gauge'
    sum = sum !== undefined && isAlike(sum, histogram) ? add(sum, histogram, notes()) : scale(histogram, 1)
    if (isGauge) continue
    const isFirst = counter.total === undefined
    counter.take(histogram)
    if (isFirst && i < to - 1) columns.counter.pushHistogram(run.times[i]!, counter.total!)
  }
  if (count === 0 || sum === undefined) return
  push('count', time, count)
  columns.sum.pushHistogram(time, { ...sum, resetHint: 'gauge' })
  if (!isGauge && counter.total !== undefined) columns.counter.pushHistogram(time, counter.total)
}

/** Exponential and custom buckets do not add up: the later ones stay. */
function isAlike(a: Histogram, b: Histogram): boolean {
  return a.schema === b.schema || (a.schema >= -4 && b.schema >= -4)
}

const notes = () => ({ collided: false, reconciled: false })
