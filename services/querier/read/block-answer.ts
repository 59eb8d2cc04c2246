// The answer of one block: series with columns, in the shape that owners' answers have, so that both are united alike. Hot kernel.

import type { Breath } from '../../../shared/base/breathing.ts'
import type { Interval } from '../../../shared/model/interval.ts'
import { type Labels, labelsKey } from '../../../shared/model/labels.ts'
import type { SeriesSamples } from '../../../shared/promql/source.ts'
import type { BlockSeriesLabels, ReadChunk, ReadSeries } from '../../../shared/tsdb/block/series.ts'
import type { HiddenParts } from './hidden-samples.ts'
import { type Answer, areEqual } from './merge-series.ts'
import { type ChunkList, NO_TIMES, SeriesColumns } from './series-columns.ts'

export interface BlockAnswerOptions {
  readonly range: Interval
  readonly mode: 'all' | 'last'
  readonly hidden: HiddenParts
  /** Sorted by bytes: each series has only these labels, and comes with both halves of its hash. */
  readonly names?: readonly string[] | undefined
  /** Told of memory for samples before it is taken. */
  readonly hold?: (bytes: number) => void
}

/** Of a series beside its samples, in units of work. */
const SERIES_WORK = 500

class SeriesChunkList implements ChunkList {
  chunks: readonly ReadChunk[] = []

  encodingAt(chunk: number): number {
    return this.chunks[chunk]!.encoding
  }

  countAt(chunk: number): number {
    return this.chunks[chunk]!.count
  }

  bytesAt(chunk: number): Uint8Array {
    return this.chunks[chunk]!.source
  }

  startAt(chunk: number): number {
    return this.chunks[chunk]!.start
  }

  endAt(chunk: number): number {
    return this.chunks[chunk]!.end
  }
}

export class BlockAnswer implements Answer {
  readonly series: SeriesSamples[] = []
  readonly hashes: number[] = []
  readonly otherHashes: number[] = []
  private readonly mode: 'all' | 'last'
  private readonly hidden: HiddenParts
  private readonly names: readonly string[] | undefined
  private readonly columns: SeriesColumns
  private readonly list = new SeriesChunkList()
  /** Projected label sets, so that series that share one share the array. */
  private readonly sets = new Map<string, Labels>()
  /** That of the series before: neighbours are alike. */
  private lastSet: Labels = []

  constructor({ range, mode, hidden, names, hold }: BlockAnswerOptions) {
    this.mode = mode
    this.hidden = hidden
    this.names = names
    this.columns = new SeriesColumns(range, hold)
  }

  async add(one: ReadSeries, breath: Breath): Promise<void> {
    const { list, columns } = this
    const hidden = this.hidden.of(one)
    list.chunks = one.chunks
    const count = one.chunks.length
    const labels = this.names === undefined ? one.labels : this.projected(one.labels, this.names)
    const decoded =
      this.mode === 'last'
        ? columns.decodeLast(labels, list, 0, count, hidden)
        : columns.decodeLong(labels, list, 0, count, hidden, breath)
    const series = decoded instanceof Promise ? await decoded : decoded
    if (series !== undefined) this.keep(series, one)
    if (breath.isDue(SERIES_WORK)) await breath.breathe()
  }

  /** A series without samples. */
  addBare(one: BlockSeriesLabels): void {
    this.keep({ labels: one.labels, times: NO_TIMES, values: NO_TIMES }, one)
  }

  private keep(series: SeriesSamples, { hashA, hashB }: BlockSeriesLabels): void {
    this.series.push(series)
    this.hashes.push(hashA)
    if (this.names !== undefined) this.otherHashes.push(hashB)
  }

  private projected(labels: Labels, names: readonly string[]): Labels {
    const kept: string[] = []
    for (let i = 0; i < labels.length; i += 2) if (names.includes(labels[i]!)) kept.push(labels[i]!, labels[i + 1]!)
    if (areEqual(kept, this.lastSet)) return this.lastSet
    const key = labelsKey(kept)
    const known = this.sets.get(key) ?? kept
    if (known === kept) this.sets.set(key, kept)
    this.lastSet = known
    return known
  }
}
