import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { systemClock } from '../../../shared/base/clock.ts'
import { type Labels, labelOf, labelsFrom } from '../../../shared/model/labels.ts'
import { createEngine, ENGINE_DEFAULTS } from '../../../shared/promql/engine.ts'
import { renderJson } from '../../../shared/promql/render.ts'
import type { SelectHints, SeriesSamples, SeriesSource } from '../../../shared/promql/source.ts'
import { compileMatchers } from '../../../shared/tsdb/matcher-set.ts'

const MINUTE = 60_000
const engine = createEngine({ ...ENGINE_DEFAULTS, clock: systemClock, enabledFeatures: new Set() })

function series(labels: Record<string, string>, seed: number): SeriesSamples {
  const times = Float64Array.from({ length: 30 }, (_, i) => i * MINUTE)
  return { labels: labelsFrom(labels), times, values: times.map((_, i) => (i * i * seed) % 17) }
}

const plain: SeriesSamples[] = []
for (const name of ['requests_total', 'errors_total', 'depth'])
  for (const job of ['a', 'b', ''])
    for (const pod of ['1', '2', '3'])
      plain.push(series({ __name__: name, ...(job !== '' && { job }), pod, le: pod }, plain.length + 1))

/** The same data, whole or, for a source that projects, cut to the labels asked for, sets shared. */
function sourceOf(all: readonly SeriesSamples[], projects: boolean): SeriesSource & { asked: SelectHints[] } {
  const asked: SelectHints[] = []
  return {
    asked,
    ...(projects && { projects: true as const }),
    async select(matchers, hints) {
      asked.push(hints)
      const compiled = compileMatchers(matchers)
      const found = all.filter(({ labels }) => compiled.every((m) => m.matches(labelOf(labels, m.name))))
      const names = hints.projection?.names
      if (names === undefined) return found
      const sets = new Map<string, Labels>()
      return found.map((one) => {
        const kept = one.labels.filter((_, i) => names.includes(one.labels[i - (i % 2)]!))
        const shared = sets.get(kept.join('\0')) ?? kept
        sets.set(kept.join('\0'), shared)
        return { ...one, labels: shared }
      })
    },
  }
}

async function answer(source: SeriesSource, text: string, stepMs: number): Promise<string> {
  const request = { text, startMs: 10 * MINUTE, endMs: 20 * MINUTE, stepMs, signal: new AbortController().signal }
  try {
    return renderJson(await engine.query(request, source))
  } catch (error) {
    return String(error)
  }
}

const namesAsked = async (text: string, data = plain) => {
  const source = sourceOf(data, true)
  await answer(source, text, 0)
  return source.asked.map(({ projection }) => projection?.names)
}

describe('a source that projects is asked for the labels that matter', () => {
  const METADATA = ['__name__', '__type__', '__unit__']
  it.each<[string, (readonly string[] | undefined)[]]>([
    ['sum by (job) (depth)', [['__name__', 'job']]],
    ['count({pod=~".+"})', [[]]],
    ['sum by (le, job) (rate(requests_total[5m]))', [[...METADATA, 'job', 'le']]],
    ['max(-depth * 2 > 1)', [METADATA]],
    ['sum(max by (pod) (depth))', [['pod']]],
    ['max(max_over_time(rate(requests_total[5m])[5m:1m]))', [METADATA]],
    ['max by (job) (depth) / sum by (pod) (depth)', [['__name__', 'job', 'pod']]],
    ['depth', [undefined]],
    ['sum without (pod) (depth)', [undefined]],
    ['sum(rate({job="a"}[5m]))', [undefined]],
    ['sum(depth * on (pod) requests_total)', [undefined, undefined]],
    ['sum by (x) (label_replace(depth, "x", "$1", "pod", "(.*)"))', [undefined]],
    ['topk(2, depth)', [undefined]],
    ['stddev(depth)', [undefined]],
    ['sum(depth) + on () group_left () depth', [undefined]],
  ])('%s', async (text, names) => {
    expect(await namesAsked(text)).toEqual(names)
  })

  it('and for all of them when a type among the labels could leave series alike', async () => {
    const typed = [
      series({ __name__: 'depth', __type__: 'gauge' }, 1),
      series({ __name__: 'depth', __type__: 'counter' }, 2),
    ]
    expect(await namesAsked('sum(rate(depth[5m]))', typed)).toEqual([METADATA, undefined])
    const text = await answer(sourceOf(typed, true), 'sum(rate(depth[5m]))', 0)
    expect(text).toContain('same labelset')
    expect(text).toBe(await answer(sourceOf(typed, false), 'sum(rate(depth[5m]))', 0))
  })
})

it('a query answers the same, projected or not', async () => {
  const selector = fc.constantFrom('depth', 'requests_total', '{job="a"}', '{__name__=~".*_total"}', 'depth{job!=""}')
  const inner = fc.letrec<{ vector: string }>((tie) => ({
    vector: fc.oneof(
      { maxDepth: 4, withCrossShrink: true },
      selector,
      fc
        .tuple(fc.constantFrom('rate', 'max_over_time', 'last_over_time', 'count_over_time'), selector)
        .map(([name, one]) => `${name}(${one}[5m])`),
      fc.tuple(fc.constantFrom('abs', '-', 'round', 'timestamp', 'sort'), tie('vector')).map(([f, v]) => `${f}(${v})`),
      fc
        .tuple(tie('vector'), fc.constantFrom('* 2', '> 3', '> bool 3', '+ on (pod, job) depth'))
        .map(([v, op]) => `(${v} ${op})`),
      tie('vector').map((v) => `max_over_time(${v}[4m:1m])`),
      fc
        .tuple(
          fc.constantFrom('sum', 'avg', 'count', 'group', 'min', 'max', 'stddev', 'quantile'),
          fc.constantFrom('', 'by (job)', 'by (pod, job)', 'by (__name__)', 'without (pod)'),
          tie('vector'),
        )
        .map(([op, names, v]) => `${op} ${names} (${op === 'quantile' ? '0.3, ' : ''}${v})`),
    ),
  })).vector
  const query = fc
    .tuple(fc.constantFrom('sum by (job)', 'avg', 'count', 'max by (__name__, le)', 'min by (pod)'), inner)
    .map(([op, v]) => `${op} (${v})`)
  await fc.assert(
    fc.asyncProperty(query, fc.constantFrom(0, MINUTE), async (text, stepMs) => {
      expect(await answer(sourceOf(plain, true), text, stepMs)).toBe(await answer(sourceOf(plain, false), text, stepMs))
    }),
    { numRuns: 300 },
  )
})
