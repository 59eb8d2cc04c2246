// Two real Prometheus replicas of one cluster and a third one beside them: one truth, from every gateway, through the death of the
// elected replica and its return.
import { execFileSync } from 'node:child_process'
import { createServer } from 'node:http'
import { setTimeout as sleep } from 'node:timers/promises'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { eventually, WAIT_MS } from '../waiting.ts'
import { ask, valuesOf } from './client.ts'
import { findNatsServer } from './nats-server.ts'
import { findPrometheus, type Prometheus, startPrometheus } from './prometheus-process.ts'
import { type System, startSystem } from './system.ts'

const TAKEOVER_S = 5
const SCRAPE_S = 1
/** A push waits half a second for company, and the machine may be busy. */
const ON_ITS_WAY_S = 1
const REFRESHES = 60

const found = findPrometheus()
const nats = findNatsServer()
const missing = 'reason' in found ? found.reason : 'reason' in nats ? nats.reason : undefined
const mustRun = process.env['CARILLON_CI'] === '1'
if (missing !== undefined && !mustRun) console.warn(`skipped: an HA pair of Prometheus: ${missing}`)

describe.skipIf(missing !== undefined && !mustRun)('an HA pair of Prometheus', () => {
  const running: { stop(): Promise<void> }[] = []
  const replicas: Record<string, Prometheus> = {}
  let system: System
  let gateways: readonly string[]
  let target: string

  beforeAll(async () => {
    if (missing !== undefined || 'reason' in found) throw new Error(missing)
    const times = ['--ha-takeover', `${TAKEOVER_S}s`, '--ha-kv-grace', '2s', '--ha-renew', '1500ms']
    system = started(await startSystem({ args: ['--gateways', '2', '--distributors', '2', ...times] }))
    gateways = system.ready.processes.filter(({ role }) => role === 'gateway').map(({ address }) => `http://${address}`)
    target = await startTarget(running)
    replicas['a'] = await startReplica('a', 0)
    await sleep(400) // scrapes at other moments than the first
    replicas['b'] = await startReplica('b', 1)
    started(
      await startPrometheus(found, {
        remoteWriteUrl: `${gateways[0]}/api/v1/write`,
        jobs: { clock: [target] },
        externalLabels: { site: 'third' },
      }),
    )
    await eventually('both replicas have been heard', WAIT_MS, async () => {
      const names = (await election())?.replicas.map(({ replica }: { replica: string }) => replica)
      return names?.length === 2 ? names : undefined
    })
    await eventually('the third one has been heard', WAIT_MS, async () => {
      const counts = await valuesOf(gateways[0]!, 'count(clock_ms_total offset 5s)')
      return counts[0] === '2' || undefined
    })
  })

  afterAll(async () => {
    for (const each of running.reverse()) await each.stop()
  })

  function started<T extends { stop(): Promise<void> }>(each: T): T {
    running.push(each)
    return each
  }

  async function startReplica(name: string, gateway: number): Promise<Prometheus> {
    if ('reason' in found) throw new Error(found.reason)
    const labels = { cluster: 'eu', __replica__: name }
    const remoteWriteUrl = `${gateways[gateway]}/api/v1/write`
    return started(await startPrometheus(found, { remoteWriteUrl, jobs: { clock: [target] }, externalLabels: labels }))
  }

  async function election() {
    const { body } = await ask(gateways[0]!, '/api/v1/ha/elections', {})
    return body.data.elections.find(({ cluster }: { cluster: string }) => cluster === 'eu')
  }

  /** Times of the pair's samples, seconds. */
  async function times(): Promise<number[]> {
    const { body } = await ask(gateways[1]!, '/api/v1/query', { query: 'clock_ms_total{cluster="eu"}[2m]' })
    expect(body.data.result).toHaveLength(1)
    return body.data.result[0].values.map(([time]: [number, string]) => time)
  }

  test('one set of series is stored for the cluster, and the third one’s beside it', async () => {
    const { body } = await ask(gateways[0]!, '/api/v1/series', { 'match[]': 'clock_ms_total' })
    const sets = body.data.map(({ cluster, site, __replica__ }: Record<string, string>) => ({
      cluster,
      site,
      __replica__,
    }))
    expect(sets).toHaveLength(2)
    expect(sets).toContainEqual({ cluster: 'eu', site: undefined, __replica__: undefined })
    expect(sets).toContainEqual({ cluster: undefined, site: 'third', __replica__: undefined })
    expect(await election()).toMatchObject({ takeovers: 0, frozen: false })
  })

  test('both gateways give the same graph at every refresh', async () => {
    for (let i = 0; i < REFRESHES; i++) {
      await sleep(1000)
      const endS = Math.floor(Date.now() / 1000) - 4
      const range = { query: 'clock_ms_total{cluster="eu"}', start: String(endS - 20), end: String(endS), step: '1' }
      const [one, other] = await Promise.all(gateways.map((url) => ask(url, '/api/v1/query_range', range)))
      const form = await ask(gateways[1]!, '/api/v1/query_range', range, { method: 'POST' })
      expect(other!.body.data).toEqual(one!.body.data)
      expect(form.body.data).toEqual(one!.body.data)
      expect(one!.body.data.result).toHaveLength(1)
    }
    const taken = await times()
    const steps = taken.slice(1).map((time, i) => time - taken[i]!)
    expect(Math.min(...steps), 'scrapes of one replica only').toBeGreaterThan(0.7 * SCRAPE_S)
    expect((await election()).dropped).toBeGreaterThan(20)
    if ('reason' in found) return
    for (const url of gateways) {
      const said = execFileSync(found.promtool, ['query', 'instant', url, 'count(clock_ms_total)'], {
        encoding: 'utf8',
      })
      expect(said).toMatch(/=> 2 @/)
    }
  })

  test('kill -9 of the elected one: a short gap, no counter goes back; it returns: no switch', async () => {
    const { replica: elected } = await election()
    replicas[elected]!.kill()
    const heir = await eventually('the other one takes over', (TAKEOVER_S + 10) * 1000, async () => {
      const { replica } = await election()
      return replica === elected ? undefined : replica
    })
    await startReplica(elected, elected === 'a' ? 0 : 1)
    await sleep(8_000)
    const taken = await times()
    const gapS = Math.max(...taken.slice(1).map((time, i) => time - taken[i]!))
    expect(gapS).toBeGreaterThan(SCRAPE_S)
    expect(gapS).toBeLessThanOrEqual(TAKEOVER_S + SCRAPE_S + ON_ITS_WAY_S)
    const pair = 'clock_ms_total{cluster="eu"}'
    expect(await valuesOf(gateways[0]!, `resets(${pair}[2m])`)).toEqual(['0'])
    const [fastest] = await valuesOf(gateways[0]!, `max_over_time(rate(${pair}[10s])[30s:1s])`)
    expect(Number(fastest), 'the counter counts milliseconds').toBeLessThan(1_300)
    expect(await election()).toMatchObject({ replica: heir, takeovers: 1 })
  })
})

/** A counter of milliseconds: its rate is known. */
function startTarget(running: { stop(): Promise<void> }[]): Promise<string> {
  const startMs = performance.now()
  const server = createServer((_, response) => {
    response.writeHead(200, { 'Content-Type': 'text/plain; version=0.0.4' })
    response.end(`# TYPE clock_ms_total counter\nclock_ms_total ${Math.round(performance.now() - startMs)}\n`)
  })
  running.push({
    stop: () =>
      new Promise((resolve) => {
        server.close(() => resolve())
        server.closeAllConnections()
      }),
  })
  return new Promise((resolve) => {
    server.listen(0, '127.0.0.1', () => {
      const address = server.address()
      resolve(`127.0.0.1:${typeof address === 'object' && address !== null ? address.port : 0}`)
    })
  })
}
