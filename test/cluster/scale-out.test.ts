// Scaling out by starting another actor, and in by stopping one, under load: no query fails, every answer is complete, nothing is lost.
import { setTimeout as sleep } from 'node:timers/promises'
import { afterAll, describe, expect, test } from 'vitest'
import { until } from '../waiting.ts'
import { checkAll } from './check.ts'
import { type Load, startLoad } from './load.ts'
import { natsFlags } from './nats-place.ts'
import { killOne } from './processes.ts'
import { type Actor, carillon, ringOf, ringServedBy, startActor, startReaders } from './ring.ts'
import { endProcess, freePort, pidOf, type System, startSystem } from './system.ts'

/** How often distributors are killed until one dies with a push in its hands: on a busy machine pushes are elsewhere most of the time. */
const KILL_ROUNDS_MAX = 6

const actors: Actor[] = []
const systems: System[] = []
afterAll(async () => {
  await Promise.all(actors.map((actor) => endProcess(actor.process)))
  await Promise.all(systems.map((system) => system.stop()))
})

async function started(args: readonly string[], port = 0): Promise<System> {
  const system = await startSystem({ args, port })
  systems.push(system)
  return system
}

function ingester(system: System, id: string, args: readonly string[] = []): Actor {
  const actor = startActor('ingester', { nats: system.ready, id, args })
  actors.push(actor)
  return actor
}

/** Answers other than 204, with when they came. */
function refusedBy({ answers }: Load): string[] {
  const bad = answers.filter(({ outcome }) => outcome !== '204')
  return bad.map(({ atMs, outcome, text }) => `${atMs.toFixed(0)} ms: ${outcome} ${text}`)
}

async function retired(system: System): Promise<void> {
  await Promise.all(actors.splice(0).map((actor) => endProcess(actor.process)))
  systems.splice(systems.indexOf(system), 1)
  await system.stop()
}

test('LOG-19: two ingesters more take their share by replay, one that stops gives it back, partitions are added; no query notices', async () => {
  const system = await started(['--partitions', '4', '--log-bytes-max', '256MiB'])
  const { url } = system
  const load = startLoad({ url: () => url, seed: 1, senders: 2, pauseMs: 60, seriesPerPush: 24 })
  const readers = startReaders(url, load.ledger)
  try {
    await ringServedBy(url, ['ingester-1'])
    const second = ingester(system, 'ingester-2')
    ingester(system, 'ingester-3')
    await ringServedBy(url, ['ingester-1', 'ingester-2', 'ingester-3'])

    const added = await carillon(['partitions', 'add', '3', ...natsFlags(system.ready)])
    expect(added, added.err.slice(-800)).toMatchObject({ code: 0, out: '7 partitions take series\n' })
    const ring = await ringServedBy(url, ['ingester-1', 'ingester-2', 'ingester-3'])
    expect(ring.partitionCount).toBe(7)

    expect(await second.stop()).toBe(0)
    const { members } = await ringServedBy(url, ['ingester-1', 'ingester-3'])
    expect(members.map(({ id }) => id)).not.toContain('ingester-2')
  } finally {
    await load.stop()
    await readers.stop()
  }
  expect(refusedBy(load)).toEqual([]) // every push at its first try
  expect(readers.answered.strong).toBeGreaterThan(20)
  const { partitions, acknowledged } = await checkAll({ url, nats: system.ready }, load.ledger)
  expect(acknowledged).toBeGreaterThan(500)
  const endSeqs = partitions.partitions.map(({ owners }) => owners[0]!.endSeq)
  expect(Math.min(...endSeqs.slice(4)), `new partitions took samples: ${endSeqs}`).toBeGreaterThan(1)

  const shown = await carillon(['ring', ...natsFlags(system.ready)])
  expect(shown.code).toBe(0)
  expect(shown.out).toMatch(/ingester-3 +ingester +ACTIVE +healthy/)
  const { out } = await carillon(['ring', '--output', 'json', ...natsFlags(system.ready)])
  expect(JSON.parse(out)).toMatchObject({ partitionCount: 7, writableCount: 7 })
  expect(await (await fetch(`${url}/ring`)).text()).toContain('<td>ingester-3</td>')
  await retired(system)
})

test('distributors and queriers come and go; no push and no query notices', async () => {
  const system = await started(['--partitions', '2', '--log-bytes-max', '256MiB'])
  const { url } = system
  const load = startLoad({ url: () => url, seed: 3, senders: 3, pauseMs: 20 })
  const readers = startReaders(url, load.ledger)
  try {
    for (let round = 0; round < 3; round++) {
      const more = (['distributor', 'querier'] as const).map((role) => {
        const actor = startActor(role, { nats: system.ready, id: `${role}-more-${round}` })
        actors.push(actor)
        return actor
      })
      await until('both are there', async () => {
        const { members } = await ringOf(url)
        return more.every((actor) => members.some(({ id, state }) => id === actor.id && state === 'ACTIVE'))
      })
      await sleep(1_500)
      for (const actor of more) expect(await actor.stop()).toBe(0)
    }
  } finally {
    await load.stop()
    await readers.stop()
  }
  expect(refusedBy(load)).toEqual([]) // every push at its first try
  await checkAll({ url, nats: system.ready }, load.ledger)
  await retired(system)
})

describe('with two owners each', () => {
  test('gateways come and go, gateways and distributors are killed in the middle of pushes: a sender with several addresses loses and doubles nothing', async () => {
    const shape = [
      '--partitions=2',
      '--ingesters=2',
      '--replication-factor=2',
      '--distributors=2',
      '--log-bytes-max=256MiB',
    ]
    const system = await started(shape, await freePort())
    const urls = [system.url]
    let turn = 0
    const load = startLoad({ url: () => urls[turn++ % urls.length]!, seed: 4, senders: 4 })
    const readers = startReaders(urls, load.ledger)
    const more = async (id: string): Promise<Actor> => {
      const address = `127.0.0.1:${await freePort()}`
      const actor = startActor('gateway', { nats: system.ready, id, args: [`--listen=${address}`] })
      actors.push(actor)
      await until(`${id} is ready`, async () => (await fetch(`http://${address}/ready`)).ok)
      urls.push(`http://${address}`)
      return actor
    }
    const goesOn = async (what: string) => {
      const fromMs = performance.now()
      const since = () => load.acknowledgedAtMs().filter((atMs) => atMs > fromMs)
      await until(`pushes get through after ${what}`, () => since().length > 60)
    }
    const lost = () => load.answers.filter(({ text }) => /err-carillon-distributor-(gone|silent)/.test(text ?? ''))
    try {
      for (const id of ['gateway-2', 'gateway-3']) {
        const actor = await more(id)
        await goesOn(`${id} came`)
        expect(await actor.stop()).toBe(0) // its address stays in the sender's list for a while
        await goesOn(`${id} went`)
        urls.pop()
      }
      expect(Object.keys(load.outcomes()).sort()).toEqual(['204', 'connection'])
      await readers.stop()
      const victim = await more('gateway-4')
      await goesOn('gateway-4 came')
      const brokenBefore = load.outcomes()['connection'] ?? 0
      victim.process.kill('SIGKILL')
      await goesOn('a gateway was killed')
      expect(load.outcomes()['connection']).toBeGreaterThan(brokenBefore)
      urls.pop()
      for (let tries = 0; tries === 0 || (lost().length === 0 && tries < KILL_ROUNDS_MAX); tries++) {
        for (const id of ['distributor-1', 'distributor-2']) {
          await until(`${id} runs`, () => pidOf(system, id) > 0)
          killOne(system, id)
          await goesOn(`${id} was killed`)
        }
      }
      killOne(system, 'gateway-1')
      await goesOn('gateway-1 was killed')
    } finally {
      await load.stop()
      await readers.end()
    }
    console.log(`gateways come and go: ${JSON.stringify(load.outcomes())}`)
    expect(lost().length, 'pushes whose distributor was killed').toBeGreaterThan(0)
    const { partitions } = await checkAll({ url: system.url, nats: system.ready }, load.ledger)
    for (const { digestsAgree } of partitions.partitions) expect(digestsAgree).toBe(true)
    await retired(system)
  })

  test('a rolling restart of all ingesters fails no query, and owners stay equal', async () => {
    const system = await started([
      '--partitions',
      '3',
      '--log-bytes-max',
      '256MiB',
      '--ingesters',
      '0',
      '--replication-factor',
      '2',
    ])
    const { url } = system
    const ids = ['ingester-1', 'ingester-2', 'ingester-3']
    const running = new Map(ids.map((id, i) => [id, ingester(system, id, ['--zone', `zone-${i}`])]))
    await ringServedBy(url, ids)
    const load = startLoad({ url: () => url, seed: 2, senders: 2, pauseMs: 60, seriesPerPush: 24 })
    const readers = startReaders(url, load.ledger)
    try {
      for (const [i, id] of ids.entries()) {
        expect(await running.get(id)!.stop()).toBe(0)
        ingester(system, id, ['--zone', `zone-${i}`])
        await ringServedBy(url, ids)
      }
    } finally {
      await load.stop()
      await readers.stop()
    }
    expect(refusedBy(load)).toEqual([])
    const { partitions } = await checkAll({ url, nats: system.ready }, load.ledger)
    for (const { digestsAgree, owners } of partitions.partitions) {
      expect(owners).toHaveLength(2)
      expect(digestsAgree).toBe(true)
    }
    const ring = await ringOf(url)
    const zoneOf = new Map(ring.members.map(({ id, zone }) => [id, zone]))
    for (const { owners } of ring.partitions) expect(new Set(owners.map(({ id }) => zoneOf.get(id))).size).toBe(2)
    await retired(system)
  })
})
