// The ledger of a load: what was sent, what was acknowledged, and therefore what must be read back, bit by bit.
//
// A (series, time) is written with one value only, however often it is repeated. Stored but never acknowledged is allowed (`extra`);
// acknowledged and not there is `lost`; there with another value, or never sent, is `wrong`.
import type { Histogram } from '../../shared/model/histogram.ts'
import { formatLabels, type Labels, labelsFrom, labelsKey } from '../../shared/model/labels.ts'
import { isStaleAt } from '../../shared/model/sample.ts'
import type { PlainMetadata, PlainSeries, PlainWrite } from '../../shared/wire/remote-write-encode.ts'

const FAULTS_SHOWN_MAX = 8

export interface LedgerSample {
  /** One element, so that the bits survive; unset for a histogram. */
  readonly value?: Float64Array
  readonly histogram?: Histogram
  isAcknowledged: boolean
}

export interface LedgerSeries {
  readonly labels: Labels
  readonly samples: Map<number, LedgerSample>
}

interface LedgerExemplar {
  readonly labels: Labels
  readonly time: number
  readonly traceId: string
  readonly value: number
}

/** One reading of everything: series by labels, each with (time, value) in the order in which it came. */
export interface HeldSeries {
  readonly labels: Labels
  readonly times: ArrayLike<number>
  readonly values: Float64Array
  readonly histograms?: readonly (Histogram | undefined)[]
}

/** How a reading is compared: JSON knows one NaN, leaves stale markers out, and histograms have their bounds spelt out. */
export type Exactness = 'bits' | 'json'

export class Ledger {
  readonly series = new Map<string, LedgerSeries>()
  readonly exemplars: LedgerExemplar[] = []
  readonly metadata = new Map<string, PlainMetadata>()
  acknowledgedCount = 0

  /** Before a write is sent for the first time. */
  send(write: PlainWrite): void {
    for (const { labels, samples = [], histograms = [] } of write.series) {
      const series = this.of(labels)
      for (const { time, value } of samples) {
        series.samples.set(time, { value: column(value), isAcknowledged: false })
      }
      for (const { time, histogram } of histograms) series.samples.set(time, { histogram, isAcknowledged: false })
    }
  }

  /** After it was answered 2xx. */
  acknowledge(write: PlainWrite): void {
    for (const series of write.series) {
      for (const { time } of [...(series.samples ?? []), ...(series.histograms ?? [])]) {
        this.of(series.labels).samples.get(time)!.isAcknowledged = true
        this.acknowledgedCount++
      }
      this.acknowledgeExemplars(series)
      if (series.metadata) this.metadata.set(series.labels[1]!, series.metadata)
    }
    for (const { name, ...row } of write.metadata ?? []) this.metadata.set(name, row)
  }

  /** Takes over the entries of another ledger, whose series are others. */
  join(other: Ledger): void {
    for (const [key, series] of other.series) this.series.set(key, series)
    for (const [metric, row] of other.metadata) this.metadata.set(metric, row)
    this.exemplars.push(...other.exemplars)
    this.acknowledgedCount += other.acknowledgedCount
  }

  /** What is acknowledged by now. */
  acknowledged(): ReadonlySet<LedgerSample> {
    const samples = [...this.series.values()].flatMap((series) => [...series.samples.values()])
    return new Set(samples.filter(({ isAcknowledged }) => isAcknowledged))
  }

  /** Takes back what was acknowledged beyond `kept`: it may be there, but need not. */
  keepAcknowledged(kept: ReadonlySet<LedgerSample>): void {
    for (const { samples } of this.series.values())
      for (const sample of samples.values()) sample.isAcknowledged = kept.has(sample)
    this.acknowledgedCount = kept.size
  }

  /** What is wrong with a reading of everything; [] when it holds each acknowledged sample once, with its value. */
  faultsIn(held: Iterable<HeldSeries>, exactness: Exactness): string[] {
    const faults = new Faults()
    const seen = new Set<string>()
    for (const row of held) {
      const key = labelsKey(row.labels)
      if (seen.has(key)) faults.add('doubled series', formatLabels(row.labels))
      seen.add(key)
      const wanted = this.series.get(key)
      if (wanted === undefined) faults.add('never sent', formatLabels(row.labels))
      else this.compareSeries(wanted, row, exactness, faults)
    }
    for (const [key, { labels, samples }] of this.series) {
      if (seen.has(key)) continue
      const missing = [...samples.values()].filter((sample) => isDue(sample, exactness)).length
      if (missing > 0) faults.add('lost', `all ${missing} samples of ${formatLabels(labels)}`, missing)
    }
    return faults.told()
  }

  /** Least and most samples that `count_over_time` may count of each series. */
  counts(name: string): Map<string, { labels: Labels; least: number; most: number }> {
    const counts = new Map<string, { labels: Labels; least: number; most: number }>()
    for (const [key, { labels, samples }] of this.series) {
      if (labels[1] !== name) continue
      const fresh = [...samples.values()].filter((sample) => !isMarker(sample))
      counts.set(key, { labels, least: fresh.filter((each) => each.isAcknowledged).length, most: fresh.length })
    }
    return counts
  }

  private compareSeries(wanted: LedgerSeries, row: HeldSeries, exactness: Exactness, faults: Faults): void {
    const times = new Set<number>()
    for (let i = 0; i < row.times.length; i++) {
      const time = row.times[i]!
      const where = `${formatLabels(row.labels)} @${time}`
      if (times.has(time)) faults.add('doubled sample', where)
      times.add(time)
      const sample = wanted.samples.get(time)
      if (sample === undefined) faults.add('never sent', where)
      else if (exactness === 'json' && isMarker(sample)) faults.add('stale marker shown', where)
      else {
        const fault = faultOf(sample, row.values.subarray(i, i + 1), row.histograms?.[i], exactness)
        if (fault !== undefined) faults.add('wrong', `${where}: ${fault}`)
      }
    }
    for (const [time, sample] of wanted.samples) {
      if (isDue(sample, exactness) && !times.has(time)) faults.add('lost', `${formatLabels(wanted.labels)} @${time}`)
    }
  }

  private acknowledgeExemplars({ labels, exemplars = [] }: PlainSeries): void {
    for (const exemplar of exemplars) {
      const value = typeof exemplar.value === 'number' ? exemplar.value : exemplar.value[0]!
      this.exemplars.push({ labels, time: exemplar.time, traceId: exemplar.labels[1]!, value })
    }
  }

  private of(labels: Labels): LedgerSeries {
    const key = labelsKey(labels)
    const known = this.series.get(key) ?? { labels, samples: new Map() }
    this.series.set(key, known)
    return known
  }
}

/** Labels as the HTTP API tells them. */
export function labelsOf(metric: Record<string, string>): Labels {
  return labelsFrom(metric)
}

/** Bits of a column's first element, as text. */
export function bitsOf(value: Float64Array): string {
  const [low, high] = new Uint32Array(value.buffer, value.byteOffset, 2)
  return `${high!.toString(16).padStart(8, '0')}${low!.toString(16).padStart(8, '0')}`
}

class Faults {
  private readonly counts = new Map<string, number>()
  private readonly shown: string[] = []

  add(kind: string, text: string, count = 1): void {
    this.counts.set(kind, (this.counts.get(kind) ?? 0) + count)
    if (this.shown.length < FAULTS_SHOWN_MAX) this.shown.push(`${kind}: ${text}`)
  }

  told(): string[] {
    if (this.counts.size === 0) return []
    return [[...this.counts].map(([kind, count]) => `${count} × ${kind}`).join(', '), ...this.shown]
  }
}

function column(value: number | Float64Array): Float64Array {
  return typeof value === 'number' ? Float64Array.of(value) : value
}

function isMarker({ value }: LedgerSample): boolean {
  return value !== undefined && isStaleAt(new Uint32Array(value.buffer, value.byteOffset, 2), 0)
}

function isDue(sample: LedgerSample, exactness: Exactness): boolean {
  return sample.isAcknowledged && (exactness === 'bits' || !isMarker(sample))
}

function faultOf(
  wanted: LedgerSample,
  value: Float64Array,
  histogram: Histogram | undefined,
  exactness: Exactness,
): string | undefined {
  if (wanted.value === undefined || histogram !== undefined) {
    const texts = [wanted.histogram, histogram].map((each) => (each ? textOf(each, exactness) : 'a float'))
    return texts[0] === texts[1] ? undefined : `${texts[1]}, wanted ${texts[0]}`
  }
  const bits = [wanted.value, value].map(bitsOf)
  const isSame =
    bits[0] === bits[1] || (exactness === 'json' && Number.isNaN(wanted.value[0]) && Number.isNaN(value[0]))
  return isSame ? undefined : `bits ${bits[1]}, wanted ${bits[0]}`
}

/** A histogram but for its reset hint, which is made again where it is read (LOG-11). */
function textOf(histogram: Histogram, exactness: Exactness): string {
  const { count, sum } = histogram
  return exactness === 'json' ? JSON.stringify({ count, sum }) : JSON.stringify({ ...histogram, resetHint: '' })
}
