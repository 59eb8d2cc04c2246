// The querier's own figures.
import type { Clock } from '../../shared/base/clock.ts'
import { latencyBuckets, type Metrics } from '../../shared/telemetry/metrics.ts'
import type { Admission } from './limits/admission.ts'
import type { Budget } from './limits/budget.ts'
import type { MemoryPool } from './limits/memory-pool.ts'
import type { OpenBlocks } from './read/open-blocks.ts'
import type { PartCache } from './split/part-cache.ts'

export interface Measures {
  begin(kind: string): { end(outcome: string, read: Budget): void }
  hedged(): void
  ownerFailed(): void
  viewRetried(): void
  fenced(): void
  blockFailed(reason: string): void
  blocksKept(open: OpenBlocks): void
  partsKept(cache: PartCache): void
  part(from: 'cache' | 'evaluation'): void
  memoryHeld(pool: MemoryPool): void
  memoryRefused(limit: 'query' | 'querier'): void
  garbageCollected(): void
}

export function measures(metrics: Metrics, admission: Admission, clock: Clock): Measures {
  const queries = metrics.counter('carillon_querier_queries_total', 'Queries answered.', ['kind', 'outcome'])
  const durations = metrics.histogram(
    'carillon_querier_query_duration_seconds',
    'Time from a query to its answer, waiting for its turn included.',
    latencyBuckets,
    ['kind'],
  )
  const samples = metrics.counter('carillon_querier_samples_read_total', 'Samples read from owners and blocks.')
  const series = metrics.counter('carillon_querier_series_read_total', 'Series read from owners and blocks.')
  const bytes = metrics.counter('carillon_querier_read_bytes_total', 'Bytes of frames read from owners.')
  const hedges = metrics.counter('carillon_querier_hedges_total', 'Second owners asked because the first was silent.')
  const failures = metrics.counter(
    'carillon_querier_owner_failures_total',
    'Owners that did not answer what they were asked.',
  )
  const blockBytes = metrics.counter('carillon_querier_block_bytes_total', 'Bytes of chunks read from blocks.')
  const retries = metrics.counter(
    'carillon_querier_view_retries_total',
    'Reads that began again because owners or the manifest had gone on meanwhile.',
  )
  const fences = metrics.counter(
    'carillon_querier_fences_total',
    'Messages that strong reads have appended to partition logs, to know where these end.',
  )
  const parts = metrics.counter(
    'carillon_querier_parts_total',
    'Parts of split range queries, by where their results came from: cache, evaluation.',
    ['from'],
  )
  const blockFailures = metrics.counter(
    'carillon_querier_block_failures_total',
    'Blocks that could not be read, by the code of the error.',
    ['reason'],
  )
  const refusals = metrics.counter(
    'carillon_querier_memory_refusals_total',
    'Times that a query was not given the memory it asked for, by whose limit was reached: query, querier.',
    ['limit'],
  )
  const collections = metrics.counter(
    'carillon_querier_garbage_collections_total',
    'Collections of garbage that the querier asked for because its process came near its bound.',
  )
  metrics.gaugeOf('carillon_querier_queries_in_flight', 'Queries being answered.', () => admission.runningCount())
  metrics.gaugeOf('carillon_querier_queries_waiting', 'Queries that wait for their turn.', () =>
    admission.waitingCount(),
  )
  return {
    begin(kind) {
      const startedMs = clock.monotonic()
      return {
        end(outcome, read) {
          queries.with({ kind, outcome }).inc()
          durations.with({ kind }).observe((clock.monotonic() - startedMs) / 1000)
          samples.inc(read.sampleCount)
          series.inc(read.seriesCount)
          bytes.inc(read.bytes)
          blockBytes.inc(read.blockBytes)
        },
      }
    },
    hedged: () => hedges.inc(),
    ownerFailed: () => failures.inc(),
    viewRetried: () => retries.inc(),
    fenced: () => fences.inc(),
    memoryRefused: (limit) => refusals.with({ limit }).inc(),
    garbageCollected: () => collections.inc(),
    memoryHeld(pool) {
      metrics.gaugeOf('carillon_querier_memory_bytes', 'Memory that queries hold, as accounted.', () => pool.bytes)
      metrics.gaugeOf(
        'carillon_querier_memory_room_bytes',
        'Memory that queries may hold together: the bound, less what the process and its caches take.',
        () => pool.roomBytes,
      )
    },
    blockFailed: (reason) => blockFailures.with({ reason }).inc(),
    part: (from) => parts.with({ from }).inc(),
    partsKept(cache) {
      metrics.gaugeOf('carillon_querier_part_cache_parts', 'Results of parts that are kept.', () => cache.count)
      metrics.gaugeOf(
        'carillon_querier_part_cache_bytes',
        'Memory of results of parts that are kept.',
        () => cache.bytes,
      )
    },
    blocksKept(open) {
      metrics.gaugeOf('carillon_querier_open_blocks', 'Blocks that are kept open.', () => open.count)
      metrics.gaugeOf(
        'carillon_querier_open_blocks_bytes',
        'Memory of blocks that are kept open, and of what was found in them.',
        () => open.bytes,
      )
    },
  }
}
