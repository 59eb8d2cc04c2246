// Projection: which labels of a selector's series matter. Below `sum by (job)` only `job` does, if nothing between looks at labels, so the
// source need not send the others.
//
// What operators on the way do to the metric's name decides whether that is safe: where they drop it, series that only the name tells
// apart are refused by the engine, and with their labels gone nobody could see that. So there the selector must name one metric.
import { compareBytes, METRIC_NAME } from '../../model/labels.ts'
import { DATE_FUNCTIONS, FLOAT_FUNCTIONS } from '../functions/elementwise.ts'
import { OVER_TIME } from '../functions/over-time.ts'
import type { PlanAggregation, PlanBinary, PlanCall, PlannedSelect, PlanSelector } from './plan.ts'

const METADATA = [METRIC_NAME, '__type__', '__unit__']

/** Aggregations whose result depends on the groups and their values. Not those whose sums lose bits with the order (stddev). */
const PROJECTED = new Set(['sum', 'avg', 'count', 'group', 'min', 'max', 'quantile'])

/** Functions that give each series its value and look at none of its labels but the metadata. */
const TRANSPARENT = new Set([
  ...Object.keys(FLOAT_FUNCTIONS),
  ...Object.keys(DATE_FUNCTIONS),
  ...Object.keys(OVER_TIME),
  ...['rate', 'increase', 'delta', 'irate', 'idelta', 'clamp', 'clamp_min', 'clamp_max', 'round', 'timestamp'],
])
for (const name of ['absent_over_time']) TRANSPARENT.delete(name)

export interface Wanted {
  readonly names: readonly string[]
  /** Something on the way drops the name. */
  readonly losesName: boolean
}

export function wantedBy({ op, grouping, isWithout }: PlanAggregation): Wanted | undefined {
  if (isWithout || !PROJECTED.has(op)) return undefined
  const names = op === 'sum' || op === 'avg' ? [...grouping, METRIC_NAME] : grouping // warnings about histograms say the name
  return { names, losesName: false }
}

/** What is wanted of the operands of an operator of whose result `wanted` is. */
export function wantedThrough(node: PlanCall | PlanBinary, wanted: Wanted | undefined): Wanted | undefined {
  const isTransparent =
    node.kind === 'call' ? TRANSPARENT.has(node.name) : node.left.type === 'scalar' || node.right.type === 'scalar'
  return isTransparent ? nameless(wanted) : undefined
}

export function nameless(wanted: Wanted | undefined): Wanted | undefined {
  return wanted && { ...wanted, losesName: true }
}

/** The labels to ask for, sorted; undefined: all. With the name come type and unit: where they show, the projection does not stand. */
export function projectedNames({ matchers }: PlanSelector, wanted: Wanted | undefined): readonly string[] | undefined {
  if (wanted === undefined) return undefined
  const names = new Set(wanted.names)
  if (wanted.losesName) {
    const isOneMetric = matchers.some(({ name, operator }) => name === METRIC_NAME && operator === '=')
    if (!isOneMetric) return undefined
    for (const name of METADATA) names.add(name)
  }
  return [...names].sort(compareBytes)
}

/** One question in the place of two that differ in labels and order only. */
export function serveBoth(a: PlannedSelect, b: PlannedSelect): PlannedSelect {
  const isOrdered = a.isOrdered || b.isOrdered
  const forbidsMetadata = a.forbidsMetadata || b.forbidsMetadata
  const { projection: ofA, ...hints } = a.hints
  const ofB = b.hints.projection
  if (ofA === undefined || ofB === undefined) return { ...a, hints, isOrdered, forbidsMetadata }
  const names = [...new Set([...ofA.names, ...ofB.names])].sort(compareBytes)
  return { ...a, hints: { ...hints, projection: { names, isOrdered } }, isOrdered, forbidsMetadata }
}
