// The random series that Carillon and a real Prometheus are both given: counters with resets, gaps, stale markers, broken numbers, label
// names that differ only in case, classic and native histograms (exponential and custom buckets, integer, float and gauge).
import type { Random } from '../../shared/base/random.ts'
import type { Histogram } from '../../shared/model/histogram.ts'
import { compareLabels } from '../../shared/model/labels.ts'
import { STALE } from '../../shared/model/sample.ts'
import type { PlainSeries, PlainValue } from '../../shared/wire/remote-write-encode.ts'

export const START_MS = 1_700_000_000_000
export const STEP_MS = 15_000
export const STEPS = 240

const jobs = ['api', 'web', 'db']
const instances = ['1', '2']
const BOUNDS = ['0.1', '0.5', '1', '2.5', '+Inf']

/** One request per time, so that both sides get every series in order. The first one has a stale marker of each series, in the order of their
 *  labels: Prometheus answers from memory in the order in which series began. */
export function fixture(random: Random): readonly PlainSeries[][] {
  const makers = makersOf(random)
  const born = makers.map(({ labels }) => ({ labels, samples: [{ time: START_MS - STEP_MS, value: STALE }] }))
  const rest = Array.from({ length: STEPS }, (_, step) => {
    const time = START_MS + step * STEP_MS
    return makers.flatMap(({ labels, next }): PlainSeries[] => {
      const value = next(step)
      if (value === undefined) return []
      if (typeof value === 'object' && 'schema' in value) return [{ labels, histograms: [{ time, histogram: value }] }]
      return [{ labels, samples: [{ time, value }] }]
    })
  })
  return [born, ...rest]
}

interface Maker {
  readonly labels: readonly string[]
  readonly next: (step: number) => PlainValue | Histogram | undefined
}

function makersOf(random: Random): Maker[] {
  const makers: Maker[] = []
  const add = (labels: Record<string, string>, next: Maker['next']) => {
    makers.push({
      labels: Object.entries(labels)
        .sort(([a], [b]) => (a < b ? -1 : 1))
        .flat(),
      next,
    })
  }
  for (const job of jobs) {
    for (const instance of instances) {
      const at = { job, instance }
      add({ __name__: 'memory_bytes', ...at }, () => Math.round(random.next() * 1e9))
      add({ __name__: 'temperature', ...at, zone: instance }, gauge(random))
      add({ __name__: 'queue_length', ...at }, (step) => (step % 40 < 8 ? undefined : random.below(50)))
      for (const [code, path] of [
        ['200', '/'],
        ['200', '/api'],
        ['500', '/'],
      ] as const) {
        add({ __name__: 'requests_total', ...at, code, path }, counter(random))
      }
      add({ __name__: 'errors_total', ...at, code: '500' }, counter(random))
      classic(random, at, add)
      add({ __name__: 'latency', ...at }, native(random, { schema: 1, isFloat: false }))
      add({ __name__: 'latency_float', ...at }, native(random, { schema: 0, isFloat: true }))
      add({ __name__: 'size_custom', ...at }, native(random, { schema: -53, isFloat: false }))
      add({ __name__: 'latency_gauge', ...at }, native(random, { schema: 0, isFloat: true, isGauge: true }))
      add({ __name__: 'two_schemas', ...at }, native(random, { schema: instance === '1' ? 2 : 0, isFloat: false }))
      const histogram = native(random, { schema: 0, isFloat: false })
      add({ __name__: 'mixed', ...at }, (step) => (step % 60 < 30 ? random.below(9) : histogram(step)))
      add({ __name__: 'target_info', ...at, data: `d${instance}` }, () => 1)
    }
    add({ __name__: 'build_info', job, version: job === 'db' ? '2' : '1' }, () => 1)
    add({ __name__: 'sparse', job }, (step) => (random.below(12) === 0 ? step : undefined))
    add({ __name__: 'flags', job }, () => random.below(2))
  }
  add({ __name__: 'http.server.duration', job: 'api', instance: '1' }, () => random.next())
  for (const [name, value] of [
    ['Job', 'API'],
    ['job', 'api'],
    ['JOB', 'Api'],
  ] as const) {
    add({ __name__: 'cased', [name]: value }, () => random.below(100))
  }
  return makers.sort((a, b) => compareLabels(a.labels, b.labels))
}

function gauge(random: Random): Maker['next'] {
  let value = 20
  return (step) => {
    value += random.next() * 2 - 1
    if (step % 97 === 50) return Number.NaN
    if (step % 97 === 60) return Infinity
    if (step % 97 === 61) return -Infinity
    if (step % 80 === 70) return STALE
    if (step % 80 > 70 && step % 80 < 75) return undefined
    return value
  }
}

function counter(random: Random): Maker['next'] {
  let value = 0
  return (step) => {
    if (random.below(50) === 0) value = 0
    value += random.below(20)
    if (step % 100 === 90) return STALE
    return step % 100 > 90 ? undefined : value
  }
}

function classic(
  random: Random,
  at: Record<string, string>,
  add: (labels: Record<string, string>, next: Maker['next']) => void,
) {
  const counts = BOUNDS.map(() => 0)
  let sum = 0
  add({ __name__: 'duration_seconds_count', ...at }, () => {
    for (let left = random.below(10); left > 0; left--) {
      const bucket = random.below(BOUNDS.length)
      for (let i = bucket; i < counts.length; i++) counts[i]!++
      sum += bucket
    }
    return counts[counts.length - 1]!
  })
  add({ __name__: 'duration_seconds_sum', ...at }, () => sum)
  for (const [i, le] of BOUNDS.entries()) add({ __name__: 'duration_seconds_bucket', ...at, le }, () => counts[i]!)
}

interface Kind {
  readonly schema: number
  readonly isFloat: boolean
  readonly isGauge?: boolean
}

function native(random: Random, { schema, isFloat, isGauge = false }: Kind): Maker['next'] {
  const custom = schema === -53
  let positive = [0, 0, 0, 0]
  let negative = custom ? [] : [0, 0]
  let zeroCount = 0
  let sum = 0
  return (step) => {
    if (step % 110 > 100) return undefined
    if (isGauge || random.below(60) === 0) {
      positive = positive.map(() => 0)
      negative = negative.map(() => 0)
      zeroCount = 0
      sum = 0
    }
    const grow = () => (isFloat ? random.below(40) / 4 : random.below(6))
    positive = positive.map((count) => count + grow())
    negative = negative.map((count) => count + grow())
    if (!custom) zeroCount += grow()
    sum += random.next() * 10 - (custom ? 0 : 3)
    const count = [...positive, ...negative].reduce((total, each) => total + each, zeroCount)
    return {
      isFloat,
      resetHint: isGauge ? 'gauge' : 'unknown',
      schema,
      zeroThreshold: custom ? 0 : 0.001,
      zeroCount,
      count,
      sum,
      positiveSpans: custom
        ? [{ offset: 0, length: 4 }]
        : [
            { offset: -1, length: 2 },
            { offset: 2, length: 2 },
          ],
      positiveBuckets: positive,
      negativeSpans: custom ? [] : [{ offset: 0, length: 2 }],
      negativeBuckets: negative,
      customValues: custom ? [1, 5, 25] : [],
    }
  }
}
