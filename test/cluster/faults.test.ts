// Faults of the log and of those who read it: a server that dies mid-batch, damaged and shortened block files, a full log, a slow reader.
// What a test cannot have been promised (data that only the damaged file held) must be named; all else must be there.
import { closeSync, openSync, readSync, truncateSync, writeSync } from 'node:fs'
import { setTimeout as sleep } from 'node:timers/promises'
import { describe, expect, test } from 'vitest'
import { logName } from '../../shared/contracts/log.ts'
import { until } from '../waiting.ts'
import { checkAll, faultsOfOwners, faultsOverHttp, partitionsOf, readPartition, settled, withBus } from './check.ts'
import {
  blockFile,
  cleanUpAfterEach,
  isSkipped,
  loadOn,
  shortArgs,
  sizeOf,
  startOn,
  startServer,
  twoOwners,
} from './fault-ground.ts'
import { Ledger } from './ledger.ts'
import type { NatsServer } from './nats-server.ts'
import { killOne, residentBytes, signal } from './processes.ts'
import { pidOf, type System } from './system.ts'

const calm = ['204', '503', 'connection']

describe.skipIf(isSkipped)('faults of the log', () => {
  cleanUpAfterEach()

  test('row 2: kill -9 of the server mid-batch: 503 only while it is down, the writer goes on within 2 s', async () => {
    const server = await startServer()
    const system = await startOn(server, shortArgs)
    const load = loadOn(system, { pauseMs: 0 })
    for (let round = 0; round < 2; round++) {
      await until('pushes get through', () => load.acknowledgedAtMs().length > 50 * (round + 1))
      const killedMs = performance.now()
      await server.kill()
      await sleep(1_000)
      await server.restart()
      const listeningMs = performance.now()
      await until('a push gets through', () => load.acknowledgedAtMs().some((atMs) => atMs > listeningMs))
      const resumedMs = load.acknowledgedAtMs().find((atMs) => atMs > listeningMs)! - listeningMs
      console.log(`row 2: the first push got through ${Math.round(resumedMs)} ms after the server listened again`)
      expect(resumedMs).toBeLessThan(2_000)
      await sleep(2_000)
      const strays = load.answers.filter(
        ({ atMs, outcome }) => outcome !== '204' && (atMs > listeningMs + 2_000 || (atMs < killedMs && round === 0)),
      )
      expect(strays).toEqual([])
    }
    await load.stop()
    expect(Object.keys(load.outcomes()).filter((outcome) => !calm.includes(outcome))).toEqual([])
    await checkAll(places(system, server), load.ledger)
  })

  for (const stop of ['kill', 'end'] as const) {
    const how = stop === 'kill' ? 'kill -9' : 'SIGTERM'
    test(`row 7: a flipped bit in a log block, server stopped by ${how}: detected, counted, named with its exact range`, async () => {
      const { server, lastSeq } = await writtenAndStopped(stop)
      flipBit(blockFile(server), 0.6)
      await server.restart()
      const lost = await lostOf(server, lastSeq)
      const system = await startOn(server, shortArgs)
      console.log(
        `row 7 (${how}): of ${lastSeq} messages before the flip it lost ${lost.range}, its end is ${lost.end}`,
      )
      await expectDamage(system, { kind: lost.end < lastSeq ? 'rewind' : 'gap', range: lost.range })
      const { warnings } = (await (await fetch(`${system.url}/api/v1/query?query=load_float`)).json()) as {
        warnings: string[]
      }
      expect(warnings.join()).toContain(lost.range)
    })
  }

  test('row 7: with two owners, one that lost its memory is filled by the other', async () => {
    const server = await startServer()
    const system = await startOn(server, [...shortArgs, ...twoOwners])
    const load = loadOn(system)
    await until('several segments', async () => (await partitionsOf(system.url)).partitions[0]!.owners[0]!.mark >= 3)
    await load.stop()
    await sleep(1_500) // high-water marks are told
    await server.end()
    flipBit(blockFile(server), 0.5)
    await server.restart()
    killOne(system, 'ingester-1')
    await until('the restarted owner is filled', async () => {
      const damage = await damageOf(system, 'ingester-1')
      return damage.length > 0 && damage.every((text) => text.endsWith('(filled)'))
    })
    await withBus(server.url, async (bus) => {
      expect(await faultsOfOwners({ bus, nats: server.url }, await settled(system.url, bus), load.ledger)).toEqual([])
    })
  })

  for (const stop of ['kill', 'end'] as const) {
    const how = stop === 'kill' ? 'kill -9' : 'SIGTERM'
    test(`row 8: a log that lost its tail, server stopped by ${how}: detected and named, new samples are all read`, async () => {
      const { server, lastSeq, load: before } = await writtenAndStopped(stop)
      const block = blockFile(server)
      truncateSync(block, sizeOf(block) - 6_000)
      await server.restart()
      const lost = await lostOf(server, lastSeq)
      console.log(`row 8 (${how}): of ${lastSeq} messages before the cut it lost ${lost.range}, its end is ${lost.end}`)
      const system = await startOn(server, shortArgs)
      await expectDamage(system, { kind: lost.end < lastSeq ? 'rewind' : 'gap', range: lost.range })
      const load = loadOn(system, { seed: 77, tag: 'after' })
      await until('sequences are used again', async () => (await endOf(server)) > lastSeq + 20)
      await load.stop()
      before.ledger.keepAcknowledged(new Set()) // what the cut took is gone; what is left of it is right
      before.ledger.join(load.ledger)
      await readsAll(server, system, before.ledger)
    })
  }

  test('row 8: the same under writers and living owners: nothing acknowledged is lost, for memory still holds it', async () => {
    const server = await startServer()
    const system = await startOn(server, [...shortArgs, ...twoOwners])
    const loads = [loadOn(system, { pauseMs: 0, tag: 'round0-' })]
    for (let round = 1; round <= 3; round++) {
      const load = loads.at(-1)!
      await until('pushes get through', () => load.acknowledgedAtMs().length > 80)
      await load.stop()
      await withBus(server.url, (bus) => settled(system.url, bus)) // what no owner has applied is only in the file that is cut
      await server.kill()
      loads.push(loadOn(system, { pauseMs: 0, tag: `round${round}-` })) // it writes as soon as it can
      const block = blockFile(server)
      truncateSync(block, Math.max(0, sizeOf(block) - 2_000 * round))
      await server.restart()
      const rewinds = async () => (await damageOf(system)).filter((text) => text.startsWith('rewind '))
      await until('both owners have noticed', async () => (await rewinds()).length >= 2 * round)
    }
    await loads.at(-1)!.stop()
    const ledger = new Ledger()
    for (const load of loads) {
      expect(Object.keys(load.outcomes()).filter((outcome) => !calm.includes(outcome))).toEqual([])
      ledger.join(load.ledger)
    }
    await readsAll(server, system, ledger)
    expect(await faultsOverHttp(system.url, ledger)).toEqual([])
  })

  test('a full log answers 503 with its reason, goes on being read, and has lost nothing', async () => {
    const server = await startServer()
    const system = await startOn(server, [...shortArgs, '--log-bytes-max=2MiB'])
    const load = loadOn(system, { pauseMs: 0, seriesPerPush: 400 })
    await until('the log is full', () =>
      load.answers.some(({ text }) => text?.includes('err-carillon-log-full') === true),
    )
    const markThen = (await partitionsOf(system.url)).partitions[0]!.owners[0]!.mark
    await sleep(4_000)
    const last = load.answers.slice(-10)
    expect(last.every(({ outcome, text }) => outcome === '503' && text?.includes('err-carillon-log-full'))).toBe(true)
    await load.abandon()
    expect(Object.keys(load.outcomes()).filter((outcome) => !calm.includes(outcome))).toEqual([])
    const checked = await checkAll(places(system, server), load.ledger)
    expect(checked.partitions.partitions[0]!.owners[0]!.mark).toBeGreaterThan(markThen) // LOG-7: marks still fit
  })

  test('row 16: an owner at 1/100 speed while it replays and follows: bounded, not dropped, catches up', async () => {
    const server = await startServer()
    const system = await startOn(server, [...shortArgs, ...twoOwners])
    const load = loadOn(system, { pauseMs: 0, seriesPerPush: 100 })
    await until('a log to replay', () => load.acknowledgedAtMs().length > 300)
    const before = pidOf(system, 'ingester-2')
    killOne(system, 'ingester-2')
    await until('it is back', () => pidOf(system, 'ingester-2') !== before)
    const pid = pidOf(system, 'ingester-2')
    let most = 0
    const endMs = performance.now() + 12_000
    while (performance.now() < endMs) {
      signal(pid, 'SIGSTOP')
      await sleep(990)
      signal(pid, 'SIGCONT')
      await sleep(10)
      most = Math.max(most, residentBytes(pid))
    }
    const atFullSpeedMs = performance.now()
    await load.stop()
    await checkAll(places(system, server), load.ledger)
    console.log(
      `row 16: at most ${Math.round(most / 1e6)} MB resident; all caught up ${Math.round(performance.now() - atFullSpeedMs)} ms after it ran at full speed again`,
    )
    expect(pidOf(system, 'ingester-2')).toBe(pid)
    expect(most).toBeLessThan(600e6)
  })
})

function places(system: System, server: NatsServer) {
  return { url: system.url, nats: server.url }
}

/** A server whose system has written for a while and was stopped in peace; then the server was. */
async function writtenAndStopped(stop: 'kill' | 'end') {
  const server = await startServer()
  const system = await startOn(server, shortArgs)
  const load = loadOn(system)
  await until('enough is written', () => load.acknowledgedAtMs().length > 120)
  await load.stop()
  await sleep(1_500) // the newest high-water mark and checkpoint are written down
  await system.stop()
  const lastSeq = await endOf(server)
  await server[stop]()
  return { server, lastSeq, load }
}

async function endOf(server: NatsServer): Promise<number> {
  return await withBus(server.url, async (bus) => (await bus.logs.state(logName(0))).lastSeq)
}

/** What the log no longer has, as one range. */
async function lostOf(server: NatsServer, lastSeq: number): Promise<{ range: string; end: number }> {
  return await withBus(server.url, async (bus) => {
    const { messages } = await readPartition(bus, 0)
    const there = new Set(messages.map(({ seq }) => seq))
    const missing = Array.from({ length: lastSeq }, (_, i) => i + 1).filter((seq) => !there.has(seq))
    expect(missing.length).toBeGreaterThan(0)
    const [from, to] = [missing[0]!, missing.at(-1)!]
    expect(missing.length).toBe(to - from + 1)
    return { range: from === to ? `${from}` : `${from}-${to}`, end: (await bus.logs.state(logName(0))).lastSeq }
  })
}

async function damageOf(system: System, id?: string): Promise<string[]> {
  const owners = (await partitionsOf(system.url)).partitions.flatMap((partition) => partition.owners)
  return owners.filter((owner) => id === undefined || owner.id === id).flatMap(({ damage }) => damage)
}

/** Named in the status with its exact range, counted in the metrics, and told by the ready page as long as nobody has filled it. */
async function expectDamage(system: System, { kind, range }: { kind: string; range: string }): Promise<void> {
  let damage: string[] = []
  await until(`damage ${kind} at ${range} is named`, async () => {
    damage = await damageOf(system)
    return damage.some((text) => text.startsWith(`${kind} at ${range} `))
  }).catch((cause: unknown) => {
    throw new Error(`the status names ${JSON.stringify(damage)}, wanted ${kind} at ${range}`, { cause })
  })
  const metrics = await (await fetch(`${system.url}/metrics`)).text()
  const counted = metrics.split('\n').find((line) => /damage_total\{/.test(line) && line.includes(`kind="${kind}"`))
  expect(Number(counted?.split(' ').at(-1))).toBeGreaterThan(0)
  if (damage.every((text) => text.endsWith('(filled)'))) return
  await until('the ready page tells of damage', async () =>
    /^log damage: ingester-\d+ names \d+/m.test(await (await fetch(`${system.url}/ready`)).text()),
  )
}

async function readsAll(
  server: NatsServer,
  system: System,
  ledger: Parameters<typeof faultsOfOwners>[2],
): Promise<void> {
  await withBus(server.url, async (bus) => {
    const faults = await faultsOfOwners({ bus, nats: server.url }, await settled(system.url, bus), ledger)
    expect(faults).toEqual([])
  })
}

/** Flips one bit of a file at a share of its length. */
function flipBit(file: string, share: number): void {
  const at = Math.floor(sizeOf(file) * share)
  const handle = openSync(file, 'r+')
  try {
    const byte = Buffer.alloc(1)
    readSync(handle, byte, 0, 1, at)
    byte[0]! ^= 0x10
    writeSync(handle, byte, 0, 1, at)
  } finally {
    closeSync(handle)
  }
}
