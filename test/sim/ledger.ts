// The ledger of a simulated history: what was sent, what was acknowledged, and what owners must therefore hold.

import type { Owner } from '../../services/ingester/owner.ts'
import type { Random } from '../../shared/base/random.ts'
import { type Labels, labelsFrom, labelsKey } from '../../shared/model/labels.ts'
import { SampleColumns } from '../../shared/tsdb/columns.ts'

interface SentSeries {
  readonly labels: Labels
  readonly samples: readonly { readonly time: number; readonly value: number }[]
  readonly exemplars?: readonly { readonly labels: Labels; readonly time: number; readonly value: number }[]
}

const ALL = { startMs: Number.NEGATIVE_INFINITY, endMs: Number.POSITIVE_INFINITY }
const SERIES_COUNT = 8
const FAULTS_SHOWN_MAX = 5

export class Ledger {
  acknowledgedCount = 0
  /** Greatest acknowledged value of each (series, time), and every value ever sent for it. */
  private readonly exemplars = new Set<string>()
  private readonly acknowledged = new Map<string, number>()
  private readonly sent = new Map<string, Set<number>>()

  /** A few series with a few samples; now and then a time that was sent before, with another value, or out of order. */
  draw(random: Random, at: { sender: number; round: number; startMs: number }): SentSeries[] {
    const seriesCount = 1 + random.below(4)
    const drawn: SentSeries[] = []
    for (let i = 0; i < seriesCount; i++) {
      const labels = labelsFrom({
        __name__: 'm',
        series: String(random.below(SERIES_COUNT)),
        sender: String(at.sender % 2),
      })
      if (drawn.some((other) => labelsKey(other.labels) === labelsKey(labels))) continue
      const samples = Array.from({ length: 1 + random.below(3) }, (_, k) => {
        const back = random.next() < 0.2 ? random.below(10) : 0
        return { time: at.startMs + Math.max(0, at.round - back) * 1000 + k * 10, value: random.below(50) }
      })
      const { time, value } = samples[0]!
      const exemplar = { labels: labelsFrom({ trace_id: `${at.sender}-${at.round}` }), time, value }
      drawn.push({ labels, samples, ...(drawn.length === 0 && { exemplars: [exemplar] }) })
    }
    this.each(drawn, (key, value) => this.sent.set(key, (this.sent.get(key) ?? new Set()).add(value)))
    return drawn
  }

  acknowledge(series: readonly SentSeries[]): void {
    this.each(series, (key, value) => {
      this.acknowledged.set(key, Math.max(value, this.acknowledged.get(key) ?? Number.NEGATIVE_INFINITY))
      this.acknowledgedCount++
    })
    for (const { exemplars = [] } of series) for (const { labels } of exemplars) this.exemplars.add(labelsKey(labels))
  }

  /** Acknowledged exemplars that none of these owners holds, which together own all partitions. */
  exemplarsMissingFrom(owners: readonly Owner[], tenant: string): string[] {
    const held = new Set<string>()
    for (const { state } of owners) {
      const head = state.heads.get(tenant)
      for (const ref of head?.selectExemplars([]) ?? [])
        for (const { labels } of head!.exemplarsOf(ref, ALL)) held.add(labelsKey(labels))
    }
    const missing = [...this.exemplars].filter((key) => !held.has(key)).map((key) => key.replaceAll(/\p{Cc}/gu, ' '))
    if (missing.length === 0) return []
    return [
      `${missing.length} of ${this.exemplars.size} acknowledged exemplars are lost: ${missing.slice(0, FAULTS_SHOWN_MAX)}`,
    ]
  }

  /** What is wrong with what blocks hold and these owners, which together own all partitions. */
  missingFrom(owners: readonly Owner[], tenant: string, { hasGrown, stored }: Beside): string[] {
    const held = new Map<string, number[]>()
    const inBlocks = new Map([...stored].map(([key, value]) => [key, [value]]))
    for (const [key, values] of inBlocks) held.set(key, values)
    for (const owner of owners) {
      const before = hasGrown ? new Map(held) : inBlocks
      const head = owner.state.heads.get(tenant)
      if (!head) continue
      const columns = new SampleColumns()
      for (let ref = 0; ref < head.seriesCount; ref++) {
        columns.clear()
        head.readInto(ref, ALL, columns)
        const labels = labelsKey(head.labelsOf(ref))
        for (let i = 0; i < columns.count; i++) {
          const key = `${labels}@${columns.times[i]}`
          const value = columns.values[i]!
          const other = before.get(key)
          if (other === undefined) held.set(key, [...(held.get(key) ?? []), value])
          else held.set(key, [Math.max(other[0]!, value)]) // a push that was repeated while its series moved: readers take the greater
        }
      }
    }
    return [...this.faultsIn(held)].slice(0, FAULTS_SHOWN_MAX)
  }

  private *faultsIn(held: ReadonlyMap<string, readonly number[]>): Iterable<string> {
    for (const [key, least] of this.acknowledged) {
      const values = held.get(key) ?? []
      const where = key.replaceAll(/\p{Cc}/gu, ' ')
      if (values.length === 0) yield `acknowledged sample is lost: ${where}`
      else if (values.length > 1) yield `sample is held ${values.length} times: ${where}`
      else if (values[0]! < least || !this.sent.get(key)!.has(values[0]!))
        yield `wrong value ${values[0]}, wanted ${least}: ${where}`
    }
  }

  private each(series: readonly SentSeries[], visit: (key: string, value: number) => void): void {
    for (const { labels, samples } of series) {
      for (const { time, value } of samples) visit(`${labelsKey(labels)}@${time}`, value)
    }
  }
}

interface Beside {
  /** Partitions were added: a series may stand in two. */
  readonly hasGrown: boolean
  /** What blocks hold. */
  readonly stored: ReadonlyMap<string, number>
}
