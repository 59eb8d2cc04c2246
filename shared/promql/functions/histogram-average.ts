// Compensated sums and averages of many native histograms, in the order they come.
import type { Breath } from '../../base/breathing.ts'
import type { Histogram } from '../../model/histogram.ts'
import { HISTOGRAM_WORK } from '../exec/column.ts'
import type { HistogramNotes } from './histogram-shape.ts'
import { HistogramSum } from './histogram-sum.ts'

/** Throws IncompatibleSchemas. */
export async function sumHistogram(
  histograms: readonly Histogram[],
  notes: HistogramNotes,
  breath: Breath,
): Promise<Histogram> {
  const sum = new HistogramSum(histograms[0]!)
  for (let i = 1; i < histograms.length; i++) {
    sum.add(histograms[i]!, notes, 1, true)
    if (breath.isDue(HISTOGRAM_WORK)) await breath.breathe()
  }
  return sum.compensated()
}

/** By the sum, as long as that fits into floats, and as a moving mean from where it no longer does. Throws IncompatibleSchemas. */
export async function averageHistogram(
  histograms: readonly Histogram[],
  notes: HistogramNotes,
  breath: Breath,
): Promise<Histogram> {
  let total = new HistogramSum(histograms[0]!)
  let isMean = false
  for (let i = 1; i < histograms.length; i++) {
    const count = i + 1
    if (breath.isDue(3 * HISTOGRAM_WORK)) await breath.breathe()
    if (!isMean) {
      const next = total.clone()
      next.add(histograms[i]!, notes, 1, true)
      if (!next.hasOverflow()) {
        total = next
        continue
      }
      isMean = true
      total.change((value) => value / (count - 1))
    }
    const keep = (count - 1) / count
    total.change((value) => value * keep)
    const share = new HistogramSum(histograms[i]!)
    share.change((value) => value / count)
    total.add(share.plain(), notes, 1, true)
  }
  if (!isMean) total.change((value) => value / histograms.length)
  return total.compensated()
}
