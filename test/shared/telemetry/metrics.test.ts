import { describe, expect, it } from 'vitest'
import { RefusedError } from '../../../shared/base/errors.ts'
import { createLog, type Log } from '../../../shared/telemetry/log.ts'
import { createMetrics } from '../../../shared/telemetry/metrics.ts'

it('two actors in one process keep their figures apart', async () => {
  const [a, b] = [createMetrics({ role: 'a' }), createMetrics({ role: 'b' })]
  const counters = [a, b].map((metrics) => metrics.counter('carillon_pushes_total', 'Pushes.', ['reason']))
  counters[0]?.with({ reason: 'x' }).inc(2)
  counters[1]?.with({ reason: 'x' }).inc()
  expect(await a.text()).toContain('carillon_pushes_total{reason="x",role="a"} 2')
  expect(await b.text()).toContain('carillon_pushes_total{reason="x",role="b"} 1')
})

it('a child is made once, and a forgotten gauge child starts afresh', async () => {
  const metrics = createMetrics()
  const gauge = metrics.gauge('carillon_lag', 'Lag.', ['partition'])
  const child = gauge.with({ partition: '0' })
  expect(gauge.with({ partition: '0' })).toBe(child)
  child.set(5)
  gauge.without({ partition: '0' })
  expect(await metrics.text()).not.toContain('carillon_lag{')
  gauge.with({ partition: '0' }).set(1)
  expect(await metrics.text()).toContain('carillon_lag{partition="0"} 1')
})

it('gauges that are read when asked, histograms, and the list of names', async () => {
  const metrics = createMetrics()
  metrics.gaugeOf('carillon_heads', 'Heads.', () => [[{ tenant: 'a' }, 3]], ['tenant'])
  metrics.histogram('carillon_push_seconds', 'Time.', [0.1, 1]).observe(0.05)
  expect(await metrics.text()).toContain('carillon_heads{tenant="a"} 3')
  expect(await metrics.text()).toContain('carillon_push_seconds_bucket{le="0.1"} 1')
  expect(metrics.describe().map((each) => each.name)).toEqual(['carillon_heads', 'carillon_push_seconds'])
})

it('a log line is one JSON object with role, id, level and text', () => {
  const lines: string[] = []
  const log = createLog({
    role: 'gateway',
    id: 'g-1',
    level: 'info',
    destination: { write: (line) => void lines.push(line) },
  })
  log.debug({}, 'hidden')
  log.child({ tenant: 'acme' }).warn({ error: new Error('boom') }, 'it broke')
  expect(lines).toHaveLength(1)
  expect(JSON.parse(lines[0] ?? '')).toMatchObject({
    role: 'gateway',
    id: 'g-1',
    tenant: 'acme',
    level: 'warn',
    text: 'it broke',
    error: { message: 'boom' },
  })
})

describe('a log line for people', () => {
  const lineOf = (speak: (log: Log) => void): string => {
    const said: string[] = []
    const destination = { write: (line: string) => void said.push(line) }
    speak(createLog({ role: 'gateway', id: 'g-1', level: 'debug', format: 'text', destination }))
    return said.join('').replace(/^\d\d:\d\d:\d\d\.\d{3}Z/, 'TIME')
  }
  const cases: readonly (readonly [string, (log: Log) => void, string])[] = [
    ['a notice', (log) => log.info({}, 'ready'), 'TIME  g-1            ready\n'],
    [
      'with facts',
      (log) => log.warn({ n: 2, who: 'a b', to: '' }, 'late'),
      'TIME  g-1            WARN late  n=2  who="a b"\n',
    ],
    [
      'of what is refused',
      (log) => log.error({ error: new RefusedError('err-carillon-not-found', 'no such file') }, 'cannot go on'),
      'TIME  g-1            ERROR cannot go on: no such file (err-carillon-not-found)\n',
    ],
  ]
  it.each(cases)('%s is one line', (_, speak, line) => expect(lineOf(speak)).toBe(line))

  it('a bug has its stack below', () => {
    const said = lineOf((log) => log.error({ error: new TypeError('x is undefined') }, 'a bug ends this process'))
    expect(said).toMatch(/^TIME {2}g-1 +ERROR a bug ends this process: x is undefined\n +at .*\n/)
  })
})
