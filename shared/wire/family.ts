// Under which name the metadata of a series belong: remote write 1.0 tells them of families, 2.0 with each series.
import type { MetricType } from './write-sink.ts'

/** What OpenMetrics adds to the name of a family; `_total` and `_info` belong to the names that senders tell. */
const SUFFIXES: Partial<Record<MetricType, readonly string[]>> = {
  histogram: ['_bucket', '_count', '_sum'],
  gaugehistogram: ['_bucket', '_gcount', '_gsum'],
  summary: ['_count', '_sum'],
}

/** The family that the series `name` is one of. Not for those that have their family's own name: native histograms, and quantiles. */
export function familyOf(name: string, type: MetricType): string {
  const suffix = SUFFIXES[type]?.find((each) => name.endsWith(each) && name.length > each.length)
  return suffix === undefined ? name : name.slice(0, -suffix.length)
}
