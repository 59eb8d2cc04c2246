// `/-/ready` through a real gateway: what a load balancer is told, and when.
import { afterEach, describe, expect, test } from 'vitest'
import { eventually, until } from '../../waiting.ts'
import { type System, type SystemOptions, startSystem } from './system.ts'

let system: System
afterEach(() => system?.stop())

async function start(options: SystemOptions = {}): Promise<void> {
  system = await startSystem(options)
}

async function ready(of = ''): Promise<{ status: number; text: string }> {
  const answer = await fetch(`${system.url}/-/ready${of}`)
  return { status: answer.status, text: await answer.text() }
}

const isReady = async () => (await ready()).status === 200

describe('ready', () => {
  test('READY-4: says what is missing and whose turn it is, and that all is well when nothing is', async () => {
    await start()
    await until('it is ready', isReady)
    expect(await ready()).toEqual({ status: 200, text: 'Carillon is Ready.\n' })
    expect((await fetch(`${system.url}/ready`)).status).toBe(200)
    system.hub.disconnect('gateway-1')
    expect(await ready()).toEqual({
      status: 503,
      text: expect.stringContaining('no connection to NATS: is a nats-server'),
    })
    system.hub.reconnect('gateway-1')
    await system.stop()
    await start({ members: { distributor: [], querier: [], ingester: [] } })
    const { text } = await ready()
    expect(text).toContain('  writes: no live distributor: start one (carillon distributor)\n')
    expect(text).toContain('  reads: no live querier: start one (carillon querier)\n')
    expect(text).toContain('  no owner for 2 of 2 partitions: 0, 1: start an ingester')
    expect((await fetch(`${system.url}/-/healthy`)).status).toBe(200)
  })

  test('READY-1: a member of the ring that takes no questions yet is none to rely on', async () => {
    await start()
    await until('it is ready', isReady)
    system.crash('distributor-1') // the ring believes in it for two seconds more
    const { status, text } = await eventually('it is noticed', 1_900, async () => {
      const said = await ready()
      return said.status === 503 ? said : undefined
    })
    expect({ status, text }).toEqual({
      status: 503,
      text: 'Carillon is not ready:\n  writes: distributor-1 does not take questions: it is starting, or has ended\n',
    })
  })

  test('READY-1: writes and reads are told apart; either alone is not ready', async () => {
    const lacking = new Map<string, readonly string[]>()
    await start({ onReadiness: (id) => lacking.get(id) ?? [] })
    await until('it is ready', isReady)
    lacking.set('distributor-1', ['the log of partition 1 does not answer'])
    await until('it is not', async () => !(await isReady()))
    expect((await ready()).text).toContain(
      'writes: distributor-1 cannot work yet: the log of partition 1 does not answer',
    )
    expect((await ready('/writes')).status).toBe(503)
    expect((await ready('/reads')).status).toBe(200)
    lacking.set('querier-1', ['its view is not confirmed'])
    await until('reads are not either', async () => (await ready('/reads')).status === 503)
    lacking.clear()
    await until('it is again', isReady)
  })

  test('READY-1: one distributor of two that can work is enough; a partition that nobody holds is named', async () => {
    const lacking = new Map([
      ['distributor-2', ['no mark']],
      ['ingester-1', []],
    ])
    await start({
      members: { distributor: ['distributor-1', 'distributor-2'] },
      onReadiness: (id) => lacking.get(id) ?? [],
    })
    await until('it is ready', isReady)
    system.crash('ingester-1')
    await until('it is not', async () => !(await isReady()))
    expect((await ready('/writes')).status).toBe(200)
    expect((await ready()).text).toMatch(/reads: nobody holds 2 of 2 partitions: 0, 1 yet: ingester-1 does not take/)
  })

  test('READY-2: any number of load balancers share one look', async () => {
    let asked = 0
    await start({
      onReadiness: (id) => {
        if (id === 'querier-1') asked++
        return []
      },
    })
    await until('it is ready', isReady)
    asked = 0
    const startMs = performance.now()
    while (performance.now() - startMs < 2_000) {
      const told = await Promise.all(Array.from({ length: 20 }, () => ready()))
      expect(told.every(({ status }) => status === 200)).toBe(true)
    }
    expect(asked).toBeGreaterThanOrEqual(1)
    expect(asked).toBeLessThanOrEqual(1 + (performance.now() - startMs) / 1_000)
  })

  test('READY-3: a member that is late once is believed, one that stays silent is not', async () => {
    let isHanging = false
    await start({ unhealthyAfterMs: 60_000, onReadiness: () => (isHanging ? new Promise(() => {}) : []) })
    await until('it is ready', isReady)
    isHanging = true
    const sinceMs = performance.now()
    await until('its silence is told', async () => !(await isReady()))
    const afterMs = performance.now() - sinceMs
    expect(afterMs).toBeGreaterThan(3_900)
    expect(afterMs).toBeLessThan(9_000)
    expect((await ready()).text).toContain('writes: distributor-1 does not answer: it is very busy, or hangs')
    isHanging = false
    await until('it is again', isReady)
  })

  test('a gateway whose view of the ring is not confirmed is not ready, whoever answers', async () => {
    await start({ unhealthyAfterMs: 1_000 })
    await until('it is ready', isReady)
    system.hub.faults.bucketsDown = true
    await until('it is told', async () => (await ready()).text.includes('does not hear its own heartbeats'))
    system.hub.faults.bucketsDown = false
    await until('it is again', isReady)
  })

  test('writes are not ready where the durability that is required does not hold', async () => {
    await start({ config: { requirePowerSafe: true }, durability: 'process-crash-safe' })
    await until('reads are', async () => (await ready('/reads')).status === 200)
    expect((await ready()).text).toContain('writes: writes are refused: --require-power-safe is set')
  })
})
