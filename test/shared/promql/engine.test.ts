import { describe, expect, it } from 'vitest'
import { type Clock, systemClock } from '../../../shared/base/clock.ts'
import { seededRandom } from '../../../shared/base/random.ts'
import { labelsFrom } from '../../../shared/model/labels.ts'
import { createEngine, ENGINE_DEFAULTS, type EngineOptions } from '../../../shared/promql/engine.ts'
import { PromqlError } from '../../../shared/promql/errors.ts'
import {
  ExecutionError,
  QueryCancelledError,
  QueryTimeoutError,
  TooManySamplesError,
} from '../../../shared/promql/exec/errors.ts'
import { renderJson } from '../../../shared/promql/render.ts'
import type { SelectHints, SeriesSamples, SeriesSource } from '../../../shared/promql/source.ts'

const MINUTE = 60_000

function engineWith(options: Partial<EngineOptions> = {}) {
  return createEngine({ ...ENGINE_DEFAULTS, clock: systemClock, enabledFeatures: new Set(), ...options })
}

function series(labels: Record<string, string>, values: number[]): SeriesSamples {
  const times = Float64Array.from(values, (_, i) => i * MINUTE)
  return { labels: labelsFrom(labels), times, values: Float64Array.from(values) }
}

/** Answers every select with all it has, by metric name. */
function sourceOf(all: readonly SeriesSamples[]): SeriesSource & { asked: SelectHints[] } {
  const asked: SelectHints[] = []
  return {
    asked,
    async select(matchers, hints) {
      asked.push(hints)
      const name = matchers.find((matcher) => matcher.name === '__name__')
      const names = new Set(name?.value.split('|'))
      return all.filter(({ labels }) => names.has(labels[labels.indexOf('__name__') + 1]!))
    },
  }
}

interface Times {
  startMs: number
  endMs: number
  stepMs: number
}

const instant = (endMs: number): Times => ({ startMs: endMs, endMs, stepMs: 0 })

async function ask(text: string, times: Times, source: SeriesSource, options: Partial<EngineOptions> = {}) {
  return engineWith(options).query({ text, ...times, signal: new AbortController().signal }, source)
}

describe('ENGINE-1: what a query reads', () => {
  const range = { startMs: 100 * MINUTE, endMs: 110 * MINUTE, stepMs: MINUTE }
  it.each<[string, Times, [number, number, SelectHints['mode']][]]>([
    ['a', instant(100 * MINUTE), [[95 * MINUTE + 1, 100 * MINUTE, 'last']]],
    ['a offset 1m', instant(100 * MINUTE), [[94 * MINUTE + 1, 99 * MINUTE, 'last']]],
    ['a', range, [[95 * MINUTE + 1, 110 * MINUTE, 'all']]],
    ['rate(a[2m])', range, [[98 * MINUTE + 1, 110 * MINUTE, 'all']]],
    ['a @ 600', range, [[5 * MINUTE + 1, 10 * MINUTE, 'last']]],
    ['a @ end()', range, [[105 * MINUTE + 1, 110 * MINUTE, 'last']]],
    ['max_over_time(a[10m:4m])', instant(100 * MINUTE), [[87 * MINUTE + 1, 100 * MINUTE, 'all']]],
    ['a + a', instant(100 * MINUTE), [[95 * MINUTE + 1, 100 * MINUTE, 'last']]],
    ['1 + 1', range, []],
  ])('%s asks exactly for the times it can look at, once', async (text, times, wanted) => {
    const source = sourceOf([])
    await ask(text, times, source)
    expect(source.asked.map(({ startMs, endMs, mode }) => [startMs, endMs, mode])).toEqual(wanted)
  })
})

it('ENGINE-2: the order in which series come does not show in the answer', async () => {
  const random = seededRandom(7)
  const all = Array.from({ length: 50 }, (_, i) =>
    series({ __name__: 'a', i: String(i) }, [0.1 * i, 1e17 / (i + 1), -3]),
  )
  const shuffled = all.map((one) => ({ one, key: random.next() })).sort((a, b) => a.key - b.key)
  const times = { startMs: 0, endMs: 2 * MINUTE, stepMs: MINUTE }
  for (const text of ['a', 'sum(a)', 'topk(3, a)', 'avg(a)']) {
    const straight = renderJson(await ask(text, times, sourceOf(all)))
    expect(renderJson(await ask(text, times, sourceOf(shuffled.map(({ one }) => one))))).toBe(straight)
  }
})

describe('ENGINE-3: limits', () => {
  const all = Array.from({ length: 10 }, (_, i) => series({ __name__: 'a', i: String(i) }, [1, 2, 3, 4, 5]))
  const times = { startMs: 0, endMs: 4 * MINUTE, stepMs: MINUTE }

  it.each(['a', 'sum(a)', 'sum_over_time(a[4m])', '-a', 'a @ 60'])(
    '%s past the maximum of samples is refused',
    async (text) => {
      await expect(ask(text, times, sourceOf(all), { samplesMax: 49 })).rejects.toThrow(TooManySamplesError)
      await expect(ask(text, times, sourceOf(all), { samplesMax: 60 })).resolves.toBeDefined()
    },
  )

  it.each(['a[292y:1ms]', 'sum_over_time(a[292y:1ms])', 'rate(sum(a)[292y:1ms])', 'sum_over_time(hour()[292y:1ms])'])(
    '%s has more steps than memory, whether there are samples or not, and is refused',
    async (text) => {
      for (const source of [sourceOf(all), sourceOf([])])
        await expect(ask(text, instant(100 * MINUTE), source)).rejects.toThrow(TooManySamplesError)
    },
  )

  it('a query that waits too long for its samples is timed out, and the source is told', async () => {
    let told: unknown
    const source: SeriesSource = {
      select: (_matchers, _hints, { signal }) =>
        new Promise((_resolve, reject) => {
          signal.addEventListener('abort', () => {
            told = signal.reason
            reject(signal.reason as Error)
          })
        }),
    }
    await expect(ask('a', times, source, { timeoutMs: 20 })).rejects.toThrow(QueryTimeoutError)
    expect(told).toBeInstanceOf(QueryTimeoutError)
  })

  it('a query that computes too long is timed out', async () => {
    let now = 0
    const hasty: Clock = { ...systemClock, monotonic: () => (now += 10) }
    await expect(ask('sum(a) + sum(a)', times, sourceOf(all), { clock: hasty, timeoutMs: 50 })).rejects.toThrow(
      QueryTimeoutError,
    )
  })

  it('a cancelled query ends', async () => {
    const controller = new AbortController()
    const source: SeriesSource = {
      async select() {
        controller.abort()
        return all as SeriesSamples[]
      },
    }
    const query = engineWith().query({ text: 'a', ...times, signal: controller.signal }, source)
    await expect(query).rejects.toThrow(QueryCancelledError)
  })

  it('the event loop is not kept for long', async () => {
    const many = Array.from({ length: 3000 }, (_, i) =>
      series({ __name__: 'a', i: String(i) }, new Array<number>(300).fill(i + 0.5)),
    )
    let turns = 0
    const timer = setInterval(() => turns++, 1)
    await ask('stddev_over_time(a[2h])', { startMs: 0, endMs: 300 * MINUTE, stepMs: MINUTE }, sourceOf(many))
    clearInterval(timer)
    expect(turns).toBeGreaterThan(2)
  })
})

describe('names are dropped at once unless delayed name removal is on', () => {
  const all = [
    series({ __name__: 'a', x: '1' }, [1, 2, 3]),
    series({ __name__: 'b', x: '1' }, [4, 5, 6]),
    series({ __name__: 'b', x: '2' }, [7, 8, 9]),
  ]
  const source = sourceOf(all)
  const at = instant(2 * MINUTE)

  it.each([
    '-{__name__=~"a|b"}',
    'abs({__name__=~"a|b"})',
    '{__name__=~"a|b"} + 1',
    'sum_over_time({__name__=~"a|b"}[5m])',
  ])('%s would make two series of one label set', async (text) => {
    await expect(ask(text, at, source)).rejects.toThrow('vector cannot contain metrics with the same labelset')
  })

  it('with it, by (__name__) still sees the names', async () => {
    const text = 'sum by (__name__) (sum_over_time({__name__=~"a|b"}[5m]))'
    const plain = await ask('sum by (__name__) (-b)', at, source)
    expect(renderJson(plain)).toBe('{"resultType":"vector","result":[{"metric":{},"value":[120,"-15"]}]}')
    await expect(ask(text, at, source, { enabledFeatures: new Set(['promql-delayed-name-removal']) })).rejects.toThrow(
      ExecutionError,
    )
  })
})

describe('refusals', () => {
  it.each(['"text"', 'a[5m]', 'a[5m:1m]'])('%s cannot be asked over a range', async (text) => {
    const times = { startMs: 0, endMs: MINUTE, stepMs: MINUTE }
    await expect(ask(text, times, sourceOf([]))).rejects.toThrow(PromqlError)
  })

  it('says which series are too many on the side that must be unique', async () => {
    const all = [
      series({ __name__: 'a', x: '1' }, [1]),
      series({ __name__: 'b', x: '1', y: '1' }, [1]),
      series({ __name__: 'b', x: '1', y: '2' }, [1]),
    ]
    await expect(ask('a + on (x) b', instant(0), sourceOf(all))).rejects.toThrow(
      'found duplicate series for the match group {x="1"} on the right hand-side of the operation: [{__name__="b", x="1", y="1"}, {__name__="b", x="1", y="2"}];many-to-many matching not allowed: matching labels must be unique on one side',
    )
    await expect(ask('b + on (x) a', instant(0), sourceOf(all))).rejects.toThrow(
      'multiple matches for labels: many-to-one matching must be explicit (group_left/group_right)',
    )
  })
})

it.each(['a + on (x) b', 'max(a + on (x) b)', 'count(b unless on () a + on (x) b)'])(
  'ENGINE-2: %s names the first duplicates in the order of labels, however the source orders them',
  async (text) => {
    const all = [
      series({ __name__: 'a', x: '2' }, [1]),
      series({ __name__: 'a', x: '1' }, [1]),
      ...['32', '31', '22', '21', '12', '11'].map((y) => series({ __name__: 'b', x: y[1]!, y }, [1])),
    ]
    const named = '[{__name__="b", x="1", y="11"}, {__name__="b", x="1", y="21"}]'
    for (const order of [all, [...all].reverse()]) {
      await expect(ask(text, instant(0), sourceOf(order))).rejects.toThrow(named)
    }
  },
)

it('what a source warns of is passed on, once', async () => {
  const source: SeriesSource = {
    async select(_matchers, _hints, context) {
      context.warn('owner 3 did not answer')
      return []
    },
  }
  const { warnings } = await ask('a + b', instant(0), source)
  expect(warnings).toEqual(['owner 3 did not answer'])
})
