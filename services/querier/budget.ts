// What one query may read from owners, counted over all its selects and partitions.
import { RefusedError } from '../../shared/base/errors.ts'

export interface BudgetBounds {
  readonly seriesMax: number
  readonly samplesMax: number
  readonly queryBytesMax: number
}

export class Budget {
  private readonly bounds: BudgetBounds
  seriesCount = 0
  sampleCount = 0
  bytes = 0

  constructor(bounds: BudgetBounds) {
    this.bounds = bounds
  }

  /** Series that may still be asked for. */
  get seriesLeft(): number {
    return this.bounds.seriesMax - this.seriesCount
  }

  /** Counts what was read. Throws RefusedError (422) with the name of the limit that was passed. */
  spend(read: { series: number; samples: number; bytes: number }): void {
    this.seriesCount += read.series
    this.sampleCount += read.samples
    this.bytes += read.bytes
    const { seriesMax, samplesMax, queryBytesMax } = this.bounds
    if (this.seriesCount > seriesMax) throw tooMuch('series', seriesMax, 'series')
    if (this.sampleCount > samplesMax) throw tooMuch('samples', samplesMax, 'samples')
    if (this.bytes > queryBytesMax) throw tooMuch('bytes', queryBytesMax, 'bytes')
  }

  /** Takes back what an attempt had read that came to nothing. */
  refund(read: { series: number; samples: number; bytes: number }): void {
    this.seriesCount -= read.series
    this.sampleCount -= read.samples
    this.bytes -= read.bytes
  }
}

function tooMuch(limit: string, max: number, unit: string): RefusedError {
  const text = `the query reads more than ${max} ${unit}; narrow its matchers or its time range`
  return new RefusedError(`err-carillon-query-${limit}`, `${text} (err-carillon-query-${limit})`, { status: 422 })
}
