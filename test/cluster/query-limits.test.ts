// Limits of tenants, queries at work and askers that leave, with real processes.
import { execFile } from 'node:child_process'
import { setTimeout as sleep } from 'node:timers/promises'
import { promisify } from 'node:util'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { eventually } from '../waiting.ts'
import { ask, pushUntilTaken } from './client.ts'
import { natsFlags } from './nats-place.ts'
import { findNatsServer } from './nats-server.ts'
import { type System, startSystem } from './system.ts'

const nats = findNatsServer()
const missing = 'reason' in nats ? nats.reason : undefined
const mustRun = process.env['CARILLON_CI'] === '1'
const run = promisify(execFile)

const SERIES = 1_500
const SAMPLES = 120
const STEP_MS = 15_000
const endMs = Math.floor(Date.now() / 1000) * 1000 - 1000
const startMs = endMs - (SAMPLES - 1) * STEP_MS

describe.skipIf(missing !== undefined && !mustRun)('limits of tenants', () => {
  let system: System

  beforeAll(async () => {
    system = await startSystem()
    for (const tenant of ['acme', 'other']) await push(tenant)
    await eventually('what was pushed is read', 20_000, async () => {
      const { body } = await ask(
        system.url,
        '/api/v1/query',
        { query: 'count(load)', time: at(endMs) },
        { tenant: 'acme' },
      )
      return body.data?.result[0]?.value[1] === String(SERIES) ? true : undefined
    })
  })
  afterAll(() => system.stop(), 50_000)

  async function push(tenant: string): Promise<void> {
    for (let from = 0; from < SERIES; from += 500) {
      const series = Array.from({ length: 500 }, (_, i) => ({
        labels: ['__name__', 'load', 'i', String(from + i)],
        samples: Array.from({ length: SAMPLES }, (__, k) => ({ time: startMs + k * STEP_MS, value: (i * k) % 97 })),
      }))
      expect((await pushUntilTaken(system.url, { series }, { tenant })).status).toBe(204)
    }
  }

  const query = (tenant: string, text = 'load') =>
    ask(system.url, '/api/v1/query', { query: text, time: at(endMs) }, { tenant })

  it('are set over HTTP and by command, hold within moments, and keep their history', async () => {
    const path = `${system.url}/api/v1/admin/limits`
    const set = await fetch(`${path}?tenant=acme`, {
      method: 'POST',
      body: new URLSearchParams({ query_series_max: '10', by: 'a person' }),
    })
    expect(await set.json()).toMatchObject({ data: { tenant: 'acme', version: 1, limits: { query_series_max: '10' } } })
    const refused = await eventually('the limit holds', 5_000, async () => {
      const answer = await query('acme')
      return answer.status === 422 ? answer : undefined
    })
    expect(refused.headers.get('x-carillon-error-id')).toBe('err-carillon-query-series')
    expect((await query('other')).status).toBe(200)
    const said = await carillon('limits', 'set', 'query_series_max=', 'query_points_max=7', '--tenant', 'acme')
    expect(said).toMatch(/query_points_max +7/)
    await eventually('the limit is gone', 5_000, async () => ((await query('acme')).status === 200 ? true : undefined))
    const history = await carillon('limits', 'history', '--tenant', 'acme', '--output', 'json')
    expect(JSON.parse(history).versions).toMatchObject([
      { version: 2, limits: { query_points_max: 7 } },
      { version: 1, limits: { query_series_max: 10 }, changedBy: '127.0.0.1, who says: a person' },
    ])
    const unknown = new URLSearchParams({ query_series: '1' })
    expect((await fetch(`${path}?tenant=acme`, { method: 'POST', body: unknown })).status).toBe(400)
    await carillon('limits', 'set', 'query_points_max=', '--tenant', 'acme')
  })

  it('a query is shown while it is at work, and ended by its id under its own tenant alone', async () => {
    const slow = slowQuery('acme')
    const path = '/api/v1/status/active_queries'
    const listed = async (tenant: string) => (await ask(system.url, path, {}, { tenant })).body.data.queries
    const shown = await eventually('the query is shown', 10_000, async () => (await listed('acme'))[0])
    expect(shown).toMatchObject({ tenant: 'acme', kind: 'range', query: SLOW })
    expect(await listed('other')).toEqual([])
    const page = await (await fetch(`${system.url}/queries`)).text()
    expect(page).toContain(shown.id)
    const end = (tenant: string) =>
      fetch(`${system.url}${path}/${shown.id}`, { method: 'DELETE', headers: { 'X-Scope-OrgID': tenant } })
    expect((await end('other')).status).toBe(404)
    expect((await end('acme')).status).toBe(204)
    const answer = await slow.answer
    expect([answer.status, answer.headers.get('x-carillon-error-id')]).toEqual([422, 'err-carillon-query-cancelled'])
    expect((await end('acme')).status).toBe(404)
  })

  it('100 ms after an asker hung up nobody works for it any more', async () => {
    const left: number[] = [] // a busy machine may be late now and then, so the best of three counts
    for (let attempt = 0; attempt < 3 && left.at(-1) !== 0; attempt++) {
      const slow = slowQuery('acme')
      await eventually('the query runs', 10_000, async () => ((await listed()) > 0 ? true : undefined))
      slow.leave()
      await expect(slow.answer).rejects.toThrow()
      await sleep(100)
      left.push(await listed())
      await eventually('nobody works for it', 5_000, async () => ((await atWork()) === 0 ? true : undefined))
    }
    expect(left.at(-1)).toBe(0)
  })

  async function listed(): Promise<number> {
    return (await ask(system.url, '/api/v1/status/active_queries', {}, { tenant: 'acme' })).body.data.queries.length
  }

  /** Handlers of queries and of what they ask, in all actors; up to a second old. */
  async function atWork(): Promise<number> {
    const text = await (await fetch(`${system.url}/metrics`)).text()
    const handlers =
      /^carillon_actor_handlers_in_flight\{[^}]*handler="(query|queryPart|select|series)"[^}]*\} (\d+)$/gm
    return [...text.matchAll(handlers)].reduce((sum, [, , count]) => sum + Number(count), 0)
  }

  function slowQuery(tenant: string) {
    const leaving = new AbortController()
    const times = { start: at(startMs), end: at(endMs), step: '1' }
    const answer = fetch(`${system.url}/api/v1/query_range?${new URLSearchParams({ query: SLOW, ...times })}`, {
      headers: { 'X-Scope-OrgID': tenant },
      signal: leaving.signal,
    })
    answer.catch(() => {}) // looked at later
    return { answer, leave: () => leaving.abort() }
  }

  async function carillon(...args: readonly string[]): Promise<string> {
    const command = ['services/carillon.mjs', ...args, ...natsFlags(system.ready)]
    return (await run(process.execPath, command)).stdout
  }
})

/** Takes many seconds where nobody ends it. */
const SLOW = 'sum(load) + avg_over_time(stddev_over_time((vector(0.1)*time())[1d:1s])[1d:4s])'

const at = (ms: number): string => String(ms / 1000)
