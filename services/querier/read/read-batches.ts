// Which series of a long list are read together, so that a list of any length is answered in its order with little held at a time.
import { type Labels, labelOf } from '../../../shared/model/labels.ts'
import type { Matcher } from '../../../shared/model/matcher.ts'

const SERIES_FIRST = 32
const SERIES_MAX = 1_000
const GROWTH_MAX = 4

/** How many series to read next: so many that they take about `bytesWanted`, by what the last ones took. */
export class BatchSize {
  series = SERIES_FIRST
  private most = SERIES_MAX
  private readonly bytesWanted: number

  constructor(bytesWanted: number) {
    this.bytesWanted = bytesWanted
  }

  learn(bytes: number): void {
    const fitting = Math.floor((this.series * this.bytesWanted) / Math.max(1, bytes))
    this.series = Math.max(1, Math.min(fitting, this.series * GROWTH_MAX, this.most))
  }

  /** They took too much. False: it was one alone. */
  shrink(): boolean {
    if (this.series === 1) return false
    this.most = Math.floor(this.series / 2)
    this.series = this.most
    return true
  }
}

/** What these series have in common: matchers that all of them pass, and few others. */
export function matchersOf(batch: readonly Labels[]): Matcher[] {
  const names = new Set(batch.flatMap((labels) => labels.filter((_, i) => i % 2 === 0)))
  return [...names].map((name): Matcher => {
    const values = [...new Set(batch.map((labels) => labelOf(labels, name)))]
    if (values.length === 1) return { name, operator: '=', value: values[0]! }
    return { name, operator: '=~', value: values.map(escaped).join('|') }
  })
}

const escaped = (text: string) => text.replace(/[\\^$.[\](){}*+?|]/g, '\\$&')
