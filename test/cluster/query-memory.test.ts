// Queries of several tenants that want more memory than their querier may take: they are refused, it stays within its bound, and answers
// small queries meanwhile.
import { readFileSync } from 'node:fs'
import { setTimeout as sleep } from 'node:timers/promises'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import type { PlainSeries } from '../../shared/wire/remote-write-encode.ts'
import { type Answered, ask, pushUntilTaken, sample } from './client.ts'
import { findNatsServer } from './nats-server.ts'
import { pidOf, type System, startSystem } from './system.ts'

const MIB = 1024 * 1024
const BOUND_BYTES = 256 * MIB
/** Over the bound. */
const TOLERANCE = 1.2
const SERIES = 2_000
const SAMPLES = 120
const STEP_MS = 15_000
const PER_PUSH = 250
const TENANTS = ['acme', 'globex', 'initech'] as const
const LOAD_MS = 15_000

const found = findNatsServer()
if ('reason' in found) console.warn(`skipped: memory of queries: ${found.reason}`)

describe.skipIf('reason' in found && process.env['CARILLON_CI'] !== '1')('queries that want too much memory', () => {
  const endMs = Math.floor(Date.now() / STEP_MS) * STEP_MS
  const startMs = endMs - (SAMPLES - 1) * STEP_MS
  let system: System

  beforeAll(async () => {
    const bounds = ['--querier-memory-max', '256MiB', '--query-memory-max', '64MiB']
    system = await startSystem({ args: [...bounds, '--samples-max', '1000000000'] })
    for (const tenant of TENANTS) {
      for (let first = 0; first < SERIES; first += PER_PUSH) {
        const series = Array.from({ length: PER_PUSH }, (_, i) => wide(first + i))
        const pushed = await pushUntilTaken(system.url, { series }, { tenant })
        expect(pushed.status, pushed.text).toBe(204)
      }
      await pushUntilTaken(system.url, { series: [sample('small', 1, [], endMs)] }, { tenant })
    }
    for (const tenant of TENANTS) {
      const asked = { query: 'count({__name__=~".+"})', time: String(endMs / 1000) }
      const { body } = await ask(system.url, '/api/v1/query', asked, { tenant, consistency: 'strong' })
      expect(body.data.result[0].value[1]).toBe(String(SERIES + 1))
    }
  })
  afterAll(() => system?.stop())

  function wide(at: number): PlainSeries {
    const labels = ['__name__', `metric_${at % 20}`, 'instance', `host-${at % 150}:9100`, 'series', `${at}`]
    const values = Array.from({ length: SAMPLES }, (_, i) => ({
      time: startMs + i * STEP_MS,
      value: at * 1000 + ((i * 7919) % 613) / 3,
    }))
    return { labels, samples: values }
  }

  const hostile: readonly string[] = [
    '{__name__=~".+"}[6h]',
    'max_over_time({__name__=~".+"}[6h:1s])',
    'count_values("v", {__name__=~".+"})',
    'count_values without () ("v", {__name__=~".+"})',
    'label_replace({__name__=~".+"}, "fan", "$1$1$1$1$1$1$1$1-$1$1$1$1$1$1$1$1", "instance", "(.*)")',
    '{__name__=~"metric_.*"} + on (series) group_left {__name__=~"metric_.*"}',
    '{__name__=~".+"} * 2 or label_join({__name__=~".+"}, "other", "-", "instance", "series")',
    'sort(quantile_over_time(0.5, {__name__=~".+"}[1h:5s]))',
    'topk(5000, {__name__=~".+"})',
  ]

  function hostileAsk(at: number): Promise<Answered> {
    const query = hostile[at % hostile.length]!
    const tenant = TENANTS[at % TENANTS.length]!
    const isInstant = query.includes('[6h]') || at % 4 === 0
    const time = String(endMs / 1000)
    const range = { start: String(startMs / 1000), end: time, step: String((endMs - startMs) / 1000 / 10_990) }
    const asked = { query, timeout: '4s', ...(isInstant ? { time } : range) }
    return ask(system.url, isInstant ? '/api/v1/query' : '/api/v1/query_range', asked, { tenant })
  }

  test('the querier stays within its bound, lives, and answers small queries', async () => {
    const pid = pidOf(system, 'querier-1')
    const untilMs = Date.now() + LOAD_MS
    let peakBytes = 0
    let smallMsMax = 0
    let smallCount = 0
    const outcomes = new Map<string, number>()
    let next = 0
    const attack = async () => {
      while (Date.now() < untilMs) {
        const { status, body } = await hostileAsk(next++)
        const id = status === 200 ? 'answered' : /\((err-[a-z-]+)\)/.exec(body.error)?.[1]
        const outcome = `${status} ${id ?? body.errorType}`
        outcomes.set(outcome, (outcomes.get(outcome) ?? 0) + 1)
      }
    }
    const watch = async () => {
      while (Date.now() < untilMs) {
        peakBytes = Math.max(peakBytes, rssOf(pid))
        await sleep(5)
      }
    }
    const askSmall = async () => {
      while (Date.now() < untilMs) {
        const startedMs = Date.now()
        const tenant = TENANTS[smallCount % TENANTS.length]!
        const { status, body } = await ask(
          system.url,
          '/api/v1/query',
          { query: 'small', time: `${endMs / 1000}` },
          { tenant },
        )
        expect({ status, value: body.data?.result[0]?.value[1] }, JSON.stringify(body)).toEqual({
          status: 200,
          value: '1',
        })
        smallMsMax = Math.max(smallMsMax, Date.now() - startedMs)
        smallCount++
        await sleep(200)
      }
    }
    await Promise.all([...Array.from({ length: 9 }, attack), watch(), askSmall()])
    expect(smallCount).toBeGreaterThan(5)
    expect(peakBytes).toBeLessThan(BOUND_BYTES * TOLERANCE)
    expect(pidOf(system, 'querier-1')).toBe(pid)
    for (const outcome of outcomes.keys())
      expect(outcome).toMatch(
        /^(200 answered|422 err-carillon-quer(y|ier)-memory|429 err-carillon-querier-memory|503 timeout)$/,
      )
  })
})

function rssOf(pid: number): number {
  return Number(/VmRSS:\s+(\d+) kB/.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))![1]) * 1024
}
