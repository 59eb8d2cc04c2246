// sum and avg of groups in which histograms stand: step by step, as floats and histograms must not mix.
import type { Histogram } from '../../model/histogram.ts'
import { type Labels, labelOf, METRIC_NAME } from '../../model/labels.ts'
import { type Annotations, TEXTS } from '../exec/annotations.ts'
import { ABSENT, type Column, FLOAT, HISTOGRAM, setHistogram } from '../exec/column.ts'
import type { PlanAggregation } from '../plan/plan.ts'
import { averageHistogram, sumHistogram } from './histogram-average.ts'
import { type HistogramNotes, IncompatibleSchemas } from './histogram-shape.ts'
import { haveBothHints } from './over-time-histograms.ts'

interface Members {
  readonly columns: readonly Column[]
}

/** `floats` aggregates the steps where only floats stand; the others are done here. */
export function aggregateHistograms(
  node: PlanAggregation,
  { columns }: Members,
  result: Column,
  { annotations }: { readonly annotations: Annotations },
  floats: (result: Column) => void,
): void {
  const { position } = node.expr
  const mixed = new Uint8Array(result.kinds.length)
  for (let step = 0; step < mixed.length; step++) {
    const histograms: Histogram[] = []
    let floatCount = 0
    let lastLabels: Labels = []
    for (const column of columns) {
      if (column.kinds[step] === FLOAT) floatCount++
      if (column.kinds[step] !== HISTOGRAM) continue
      histograms.push(column.histograms![step]!)
      lastLabels = column.labels
    }
    if (histograms.length === 0) continue
    mixed[step] = 1
    if (floatCount > 0) annotations.warn(TEXTS.mixedInAggregation, position)
    else reduceStep(node, { histograms, lastLabels, step }, result, annotations)
  }
  const plain = { ...result, kinds: new Uint8Array(mixed.length) }
  floats(plain)
  for (let step = 0; step < mixed.length; step++) if (mixed[step] === 0) result.kinds[step] = plain.kinds[step]!
}

function reduceStep(
  node: PlanAggregation,
  { histograms, lastLabels, step }: { histograms: Histogram[]; lastLabels: Labels; step: number },
  result: Column,
  annotations: Annotations,
): void {
  const { position } = node.expr
  const notes: HistogramNotes = { collided: false, reconciled: false }
  try {
    setHistogram(result, step, (node.op === 'sum' ? sumHistogram : averageHistogram)(histograms, notes))
  } catch (error) {
    if (!(error instanceof IncompatibleSchemas)) throw error
    result.kinds[step] = ABSENT
    annotations.warn(TEXTS.mixedSchemas(labelOf(lastLabels, METRIC_NAME)), position)
    return
  }
  if (notes.reconciled) annotations.inform(TEXTS.boundsReconciled('aggregation'), position)
  if (haveBothHints(histograms)) annotations.warn(TEXTS.resetCollision('aggregation'), position)
}
