// Which samples of a series are left out of a rewritten block: by deletes, and by what the tenant keeps.
import { type Labels, labelOf } from '../../shared/model/labels.ts'
import type { SampleColumns } from '../../shared/tsdb/columns.ts'
import { type CompiledMatcher, compileMatchers } from '../../shared/tsdb/matcher-set.ts'
import type { Removal } from './merge-job.ts'
import type { Keep } from './plan.ts'

/** Both inclusive, ms. */
export interface Span {
  readonly startMs: number
  readonly endMs: number
}

/** Gives the spans of a series that are left out. */
export function leftOut(removals: readonly Removal[], keeps: readonly Keep[]): (labels: Labels) => readonly Span[] {
  const removed = removals.map(({ selectors, startMs, endMs }) => ({
    selectors: selectors.map(compileMatchers),
    span: { startMs, endMs },
  }))
  const kept = keeps.map(({ matchers, beforeMs }) => ({ matchers: compileMatchers(matchers), beforeMs }))
  return (labels) => {
    const spans: Span[] = []
    for (const { selectors, span } of removed) if (selectors.some((one) => passes(labels, one))) spans.push(span)
    const keep = kept.find(({ matchers }) => passes(labels, matchers))
    if (keep !== undefined && keep.beforeMs !== Number.NEGATIVE_INFINITY)
      spans.push({ startMs: Number.NEGATIVE_INFINITY, endMs: keep.beforeMs - 1 })
    return spans
  }
}

export function passes(labels: Labels, matchers: readonly CompiledMatcher[]): boolean {
  return matchers.every(({ name, matches }) => matches(labelOf(labels, name)))
}

export function touches(spans: readonly Span[], minTime: number, maxTime: number): boolean {
  return spans.some(({ startMs, endMs }) => startMs <= maxTime && endMs >= minTime)
}

/** Appends to `sink` what of `columns` lies in none of the spans. */
export function without(columns: SampleColumns, spans: readonly Span[], sink: SampleColumns): void {
  const run = columns.asRun()
  let from = 0
  for (let i = 0; i <= columns.count; i++) {
    const time = columns.times[i]!
    const isOut = i === columns.count || spans.some(({ startMs, endMs }) => time >= startMs && time <= endMs)
    if (!isOut) continue
    if (i > from) sink.pushRange(run, from, i)
    from = i + 1
  }
}
