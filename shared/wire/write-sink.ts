// What the readers of remote write tell, and the bounds they keep.

import type { UnwantedLabels } from './unwanted.ts'

/** What Prometheus calls a metric's type, in the words of the text format. */
export type MetricType =
  | 'unknown'
  | 'counter'
  | 'gauge'
  | 'histogram'
  | 'gaugehistogram'
  | 'summary'
  | 'info'
  | 'stateset'

/** The wire number of each type, the same in both protocols. */
export const METRIC_TYPES: readonly MetricType[] = [
  'unknown',
  'counter',
  'gauge',
  'histogram',
  'gaugehistogram',
  'summary',
  'info',
  'stateset',
]

/** Why a series cannot be told (2.0). */
export interface SeriesFault {
  /** References to symbols that are not there, or nothing that could be stored. */
  readonly kind: 'references' | 'no-samples'
  readonly text: string
}

/**
 * Receives one request in order: series, then its floats, histograms, exemplars and metadata, then seriesEnd.
 *
 * A request may turn out to be malformed after much of it was told, and must then have no effect at all: a sink only gathers, and
 * what it gathered counts when the reader has returned. Positions point into the given bytes, which are valid during the call; the
 * labels of a series stay valid until its seriesEnd. Labels come as a region (label-region.ts) whatever the protocol.
 */
export interface WriteSink {
  /** Series with both labels are not told: what they hold is counted by `skipped`, as if `series` had said false. May change with each
   *  series that is told. */
  readonly unwanted?: UnwantedLabels | undefined
  /** Remote write 1.0: where the labels of the series at `start` end, when the sink knows these very bytes as a whole label region;
   *  −1: it does not. Saves the reader walking them. */
  knownEnd?(bytes: Uint8Array, start: number, end: number): number
  /** False skips the series: nothing more of it is told but `skipped`, and its samples are not even read. */
  series(labels: Uint8Array, start: number, end: number): boolean
  /** In place of a series that cannot be told: why, and how many floats and histograms it held. */
  refused(fault: SeriesFault, samples: number): void
  /** What a skipped series held. */
  skipped?(floats: number, histograms: number, exemplars: number): void
  /** `slot[0]` holds the value, bits preserved: take it by `column[i] = slot[0]!`. `startTime` 0 means unknown. */
  float(time: number, slot: Float64Array, startTime: number): void
  /** The raw Histogram message, for decodeHistogram; its fields are the same in both versions. */
  histogram(time: number, bytes: Uint8Array, start: number, end: number, version: 1 | 2, startTime: number): void
  /** `time` 0 means that the sender gave none. */
  exemplar(time: number, slot: Float64Array, labels: Uint8Array, start: number, end: number): void
  /** In place of an exemplar of the series being told whose labels are not there. */
  exemplarRefused(): void
  /** 1.0: of a metric family, outside of any series. 2.0: of the series being told, with the name of its family (family.ts). */
  metadata(name: string, type: MetricType, help: string, unit: string): void
  seriesEnd(): void
}

/** Bounds of one request, coarse guards against bodies made to hurt; a tenant's limits are checked by the sink. */
export interface WriteLimits {
  readonly seriesMax: number
  /** Floats and histograms together. */
  readonly samplesMax: number
  readonly exemplarsMax: number
  readonly metadataMax: number
  readonly symbolsMax: number
  /** Labels of one series that have to be put together (always in 2.0), in bytes. */
  readonly regionBytesMax: number
  /** The same for all series of a request: symbols can be named many times. */
  readonly regionBytesTotalMax: number
}

export const defaultWriteLimits: WriteLimits = Object.freeze({
  seriesMax: 1_000_000,
  samplesMax: 5_000_000,
  exemplarsMax: 1_000_000,
  metadataMax: 1_000_000,
  symbolsMax: 2_000_000,
  regionBytesMax: 4 << 20,
  regionBytesTotalMax: 512 << 20,
})
