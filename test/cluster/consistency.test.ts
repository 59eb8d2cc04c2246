// LOG-20: who asks for what was written gets it, or an error; never less.
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { eventually, WAIT_MS } from '../waiting.ts'
import { ask, pushUntilTaken, sample, valuesOf } from './client.ts'
import { findNatsServer } from './nats-server.ts'
import { freeze, killOne, signal } from './processes.ts'
import { pidOf, type System, startSystem } from './system.ts'

const found = findNatsServer()
if ('reason' in found) console.warn(`skipped: consistent reads: ${found.reason}`)
const isSkipped = 'reason' in found && process.env['CARILLON_CI'] !== '1'

/** While `work` runs, the actor does not. */
async function whileStopped(pid: number, work: () => Promise<void>): Promise<void> {
  try {
    await freeze(pid)
    await work()
  } finally {
    process.kill(pid, 'SIGCONT')
  }
}

/** The caught-up owners of each partition, as the status page tells. */
async function ownersOf(url: string): Promise<string[][]> {
  const response = await fetch(`${url}/api/v1/status/partitions`)
  const { data } = (await response.json()) as {
    data: { partitions: { owners: { id: string; state: string }[] }[] }
  }
  return data.partitions.map(({ owners }) => owners.filter(({ state }) => state === 'caught-up').map(({ id }) => id))
}

describe.skipIf(isSkipped)('one owner', () => {
  let system: System
  beforeAll(async () => {
    system = await startSystem({ args: ['--owner-wait', '1s', '--owner-timeout', '4s'] })
    await pushUntilTaken(system.url, { series: [sample('first', 1)] })
  })
  afterAll(() => system?.stop())

  test.each(['strong', 'the position of the push'])('reads its own writes, 200 times in a row: %s', async (how) => {
    for (let i = 1; i <= 200; i++) {
      const { status, position } = await pushUntilTaken(system.url, { series: [sample('own', i, ['how', how])] })
      expect(status).toBe(204)
      expect(position).toMatch(/^0\/\S+:\d+$/)
      const consistency = how === 'strong' ? 'strong' : position
      expect(await valuesOf(system.url, `own{how="${how}"}`, { consistency })).toEqual([String(i)])
    }
  })

  test('stopped: 503 after the deadline, never old data; awake again: the newest', async () => {
    const pid = pidOf(system, 'ingester-1')
    await pushUntilTaken(system.url, { series: [sample('stopped', 1)] })
    expect(await valuesOf(system.url, 'stopped')).toEqual(['1'])
    await whileStopped(pid, async () => {
      const { status, position } = await pushUntilTaken(system.url, { series: [sample('stopped', 2)] })
      expect(status).toBe(204)
      const startedMs = Date.now()
      const answers = await Promise.all(
        ['strong', position].map((consistency) =>
          ask(system.url, '/api/v1/query', { query: 'stopped' }, { consistency }),
        ),
      )
      for (const answer of answers) {
        expect(answer.status).toBe(503)
        expect(answer.body).toMatchObject({ status: 'error', errorType: 'unavailable' })
        expect(answer.body.error).toContain('partition 0')
        expect(answer.body.data).toBeUndefined()
      }
      expect(Date.now() - startedMs).toBeLessThan(15_000)
    })
    await eventually('the newest sample', WAIT_MS, async () => {
      expect(await valuesOf(system.url, 'stopped')).toEqual(['2'])
      return true
    })
  })

  test('a position that is none, or of another log, is refused', async () => {
    const bad = await ask(system.url, '/api/v1/query', { query: 'own' }, { consistency: 'yesterday' })
    expect({ status: bad.status, type: bad.body.errorType }).toEqual({ status: 400, type: 'bad_data' })
    const other = await ask(system.url, '/api/v1/query', { query: 'own' }, { consistency: '0/another:3' })
    expect({ status: other.status, type: other.body.errorType }).toEqual({ status: 503, type: 'unavailable' })
    const later = await ask(system.url, '/api/v1/query', { query: 'own' }, { consistency: '7/x:3' })
    expect(later.status).toBe(503)
  })
})

describe.skipIf(isSkipped)('two owners, each of its own partition', () => {
  let system: System
  const names = Array.from({ length: 40 }, (_, i) => `spread_${i}`)
  beforeAll(async () => {
    const args = [
      '--ingesters',
      '2',
      '--partitions',
      '2',
      '--replication-factor',
      '1',
      '--owner-timeout',
      '2s',
      '--heartbeat',
      '3s',
      '--unhealthy-after',
      '9s',
    ]
    system = await startSystem({ args })
    await pushUntilTaken(system.url, { series: names.map((name) => sample(name, 1)) })
    expect(await valuesOf(system.url, '{__name__=~"spread_.*"}')).toHaveLength(40)
  })
  afterAll(() => system?.stop())

  test('one stopped: the error names the partition; partial_response answers the rest with a warning; then the other takes over', async () => {
    const query = '{__name__=~"spread_.*"}'
    const names = '/api/v1/label/__name__/values'
    const partial = { partial_response: 'true' }
    const alone = await eventually('each has its partition', WAIT_MS, async () => {
      const owners = await ownersOf(system.url)
      const isSpread = new Set(owners.flat()).size === 2
      return isSpread ? owners.find((ids) => ids.length === 1)?.[0] : undefined // a former owner serves a while
    })
    await whileStopped(pidOf(system, alone), async () => {
      const [whole, rest, allNames, restOfNames] = await Promise.all([
        ask(system.url, '/api/v1/query', { query }),
        ask(system.url, '/api/v1/query', { query, ...partial }),
        ask(system.url, names, {}),
        ask(system.url, names, partial),
      ])
      for (const { status, body } of [whole!, allNames!]) {
        expect(status).toBe(503)
        expect(body).toMatchObject({ status: 'error', errorType: 'unavailable' })
        expect(body.error).toMatch(/^partition [01] has no owner that answers/)
      }
      for (const { status, body } of [rest!, restOfNames!]) {
        expect(status).toBe(200)
        const count = (body.data.result ?? body.data).length
        expect(count).toBeGreaterThan(0)
        expect(count).toBeLessThan(40)
        expect(body.warnings).toHaveLength(1)
        expect(body.warnings[0]).toMatch(/^partition [01] has no owner that answers/)
      }
      await eventually('the other owner has everything', WAIT_MS, async () => {
        expect(await valuesOf(system.url, query)).toHaveLength(40)
        return true
      })
    })
    await eventually('all again', WAIT_MS, async () => {
      expect(await valuesOf(system.url, query)).toHaveLength(40)
      return true
    })
  })
})

describe.skipIf(isSkipped)('two owners of one partition', () => {
  let system: System
  beforeAll(async () => {
    system = await startSystem({ args: ['--ingesters', '2', '--replication-factor', '2', '--hedge-after', '300ms'] })
    await pushUntilTaken(system.url, { series: [sample('twice', 1)] })
  })
  afterAll(() => system?.stop())

  test.each(['ingester-1', 'ingester-2'])('%s stopped: the other answers, strong reads too', async (id) => {
    await eventually('both hold it', WAIT_MS, async () => {
      return (await ownersOf(system.url))[0]?.length === 2 ? true : undefined
    })
    await whileStopped(pidOf(system, id), async () => {
      const startedMs = Date.now()
      expect(await valuesOf(system.url, 'twice', { consistency: '' })).toEqual(['1'])
      expect(Date.now() - startedMs).toBeLessThan(4_000)
      await pushUntilTaken(system.url, { series: [sample('meanwhile', 1, ['stopped', id])] })
      expect(await valuesOf(system.url, `meanwhile{stopped="${id}"}`)).toEqual(['1'])
    })
  })

  test('one killed: every query goes on; both killed at once: the error names the partition, then everything is back by replay', async () => {
    await eventually('both hold it', WAIT_MS, async () =>
      (await ownersOf(system.url))[0]?.length === 2 ? true : undefined,
    )
    await pushUntilTaken(system.url, { series: [sample('survivor', 7)] })
    expect(await valuesOf(system.url, 'survivor')).toEqual(['7'])

    killOne(system, 'ingester-1')
    for (let i = 0; i < 20; i++) expect(await valuesOf(system.url, 'survivor', { consistency: '' })).toEqual(['7'])
    await eventually('both hold it again', WAIT_MS, async () =>
      (await ownersOf(system.url))[0]?.length === 2 ? true : undefined,
    )

    const pids = ['ingester-1', 'ingester-2'].map((id) => pidOf(system, id))
    for (const pid of pids) signal(pid, 'SIGKILL')
    const { status, body } = await ask(system.url, '/api/v1/query', { query: 'survivor' })
    expect(status).toBe(503)
    expect(body.error).toMatch(/^partition 0 has no owner that answers/)
    await eventually('replayed', WAIT_MS, async () => {
      expect(await valuesOf(system.url, 'survivor')).toEqual(['7'])
      return true
    })
  })
})
