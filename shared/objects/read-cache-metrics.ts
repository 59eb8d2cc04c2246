// The read cache's figures, for whoever has metrics.
import type { Metrics } from '../telemetry/metrics.ts'
import type { ReadCacheMetrics } from './read-cache.ts'

export function readCacheMetrics(metrics: Metrics): ReadCacheMetrics {
  const reads = metrics.counter(
    'carillon_objects_cache_reads_total',
    'Pieces of objects that reads asked for, by where they were found: memory, folder, store.',
    ['from'],
  )
  const bytes = metrics.counter(
    'carillon_objects_cache_bytes_total',
    'Bytes read through the cache: asked for, where memory or folder had them; fetched, where the store had to be asked.',
    ['from'],
  )
  const failures = metrics.counter(
    'carillon_objects_cache_failures_total',
    'Files of the cache folder that were damaged, or could not be read or written.',
  )
  const count = (from: 'memory' | 'folder' | 'store') => {
    const labelled = { reads: reads.with({ from }), bytes: bytes.with({ from }) }
    return (byteCount: number) => {
      labelled.reads.inc()
      labelled.bytes.inc(byteCount)
    }
  }
  const counts = { memory: count('memory'), folder: count('folder'), store: count('store') }
  return { hit: (where, byteCount) => counts[where](byteCount), miss: counts.store, failed: () => failures.inc() }
}
