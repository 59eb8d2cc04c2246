// The hash that places a series: over its tenant and its labels, the same for every actor. It tells no series apart: those that share it only
// share a partition.
import type { Labels } from '../model/labels.ts'
import { hashBytes } from '../wire/label-region.ts'

/** 32 bits, unsigned. `labels` are canonical: sorted, without empty values. */
export function seriesHashOf(tenant: string, labels: Labels): number {
  const bytes = Buffer.from(`${tenant}\u0000${labels.join('\u0000')}`)
  return hashBytes(bytes, 0, bytes.length) >>> 0
}
