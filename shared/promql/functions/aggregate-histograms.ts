// sum and avg of groups in which histograms stand: step by step, as floats and histograms must not mix.
import type { Breath } from '../../base/breathing.ts'
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
export async function aggregateHistograms(
  node: PlanAggregation,
  { columns }: Members,
  result: Column,
  state: Breath & { readonly annotations: Annotations },
  floats: (result: Column) => Promise<void>,
): Promise<void> {
  const { annotations } = state
  const { position } = node.expr
  const mixed = new Uint8Array(result.kinds.length)
  for (let step = 0; step < mixed.length; step++) {
    const histograms: Histogram[] = []
    let floatCount = 0
    let lastLabels: Labels = []
    for (const column of columns) {
      if (column.kinds[step] === FLOAT) floatCount++
      if (state.isDue(10)) await state.breathe()
      if (column.kinds[step] !== HISTOGRAM) continue
      histograms.push(column.histograms![step]!)
      lastLabels = column.labels
    }
    if (histograms.length === 0) continue
    mixed[step] = 1
    if (floatCount > 0) annotations.warn(TEXTS.mixedInAggregation, position)
    else await reduceStep(node, { histograms, lastLabels, step }, result, state)
  }
  const plain = { ...result, kinds: new Uint8Array(mixed.length) }
  await floats(plain)
  for (let step = 0; step < mixed.length; step++) if (mixed[step] === 0) result.kinds[step] = plain.kinds[step]!
}

async function reduceStep(
  node: PlanAggregation,
  { histograms, lastLabels, step }: { histograms: Histogram[]; lastLabels: Labels; step: number },
  result: Column,
  state: Breath & { readonly annotations: Annotations },
): Promise<void> {
  const { annotations } = state
  const { position } = node.expr
  const notes: HistogramNotes = { collided: false, reconciled: false }
  try {
    const reduce = node.op === 'sum' ? sumHistogram : averageHistogram
    setHistogram(result, step, await reduce(histograms, notes, state))
  } catch (error) {
    if (!(error instanceof IncompatibleSchemas)) throw error
    result.kinds[step] = ABSENT
    annotations.warn(TEXTS.mixedSchemas(labelOf(lastLabels, METRIC_NAME)), position)
    return
  }
  if (notes.reconciled) annotations.inform(TEXTS.boundsReconciled('aggregation'), position)
  if (haveBothHints(histograms)) annotations.warn(TEXTS.resetCollision('aggregation'), position)
}
