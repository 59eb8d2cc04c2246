// Servers that answer what was: one that is behind, and one that was cut off while it led. What the project reads of them is not believed where
// it matters. Three nats-servers, three copies.
import type { ChildProcess } from 'node:child_process'
import { setTimeout as sleep } from 'node:timers/promises'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { createLogEnds } from '../../services/querier/read/log-ends.ts'
import { systemClock } from '../../shared/base/clock.ts'
import { systemRandom } from '../../shared/base/random.ts'
import type { Bus, KvBucket } from '../../shared/bus/port.ts'
import { batchSubject, logConfig, logName } from '../../shared/contracts/log.ts'
import { eventually, until, WAIT_MS } from '../waiting.ts'
import { type LinkedServers, startLinkedServers } from './linked-servers.ts'
import { type Load, startLoad } from './load.ts'
import { findNatsServer } from './nats-server.ts'
import { carillon, type Readers, ringServedBy, startActor, startReaders } from './ring.ts'
import { endProcess, freePort } from './system.ts'

const nats = findNatsServer()
const isSkipped = 'reason' in nats && process.env['CARILLON_CI'] !== '1'
if ('reason' in nats) console.log(`servers that are behind: ${nats.reason}`)

const PUTS = 300
const LOADERS = 10
const bytes = (text: string) => Buffer.from(text)
/** Where a stream was just made, or its servers are busy, a server may not know yet who leads it: nobody hears the put then. */
const put = (bucket: KvBucket, key: string, value: Uint8Array) =>
  eventually('the bucket has a leader', WAIT_MS, () => bucket.put(key, value))

describe.skipIf(isSkipped)('servers that are behind or cut off', () => {
  let cluster: LinkedServers
  let buses: Bus[]
  let buckets: KvBucket[]

  beforeAll(async () => {
    cluster = await startLinkedServers()
    buses = await Promise.all([0, 1, 2].map((server) => cluster.connect(server)))
    const made = () => buses[0]!.logs.ensure(logConfig(0, { bytesMax: 64 * 1024 * 1024, replicas: 3 }))
    await eventually('the log is made', WAIT_MS, made)
    buckets = await Promise.all(buses.map((bus) => bus.bucket('b', { replicas: 3 })))
    await Promise.all(buckets.map((bucket, server) => put(bucket, `first.${server}`, bytes('v'))))
  })

  afterAll(() => cluster?.stop())

  const write = async (bus: Bus) =>
    (await bus.logs.append(logName(0), batchSubject(0), bytes('x'), { timeoutMs: 2_000 })).seq
  const endsOf = ({ logs }: Bus) =>
    createLogEnds({ logs, clock: systemClock, random: systemRandom, id: 'q', onFence() {} })

  test('what is newest is never old, right behind a put at another server', async () => {
    let isOver = false
    const loaders = Array.from({ length: LOADERS }, async (_, i) => {
      while (!isOver) await put(buckets[i % 3]!, `load.${i}`, new Uint8Array(10_000))
    })
    const old = { get: 0, newest: 0 }
    try {
      for (let i = 0; i < PUTS; i++) {
        const key = `k.${i}`
        const revision = await put(buckets[i % 3]!, key, bytes('v'))
        const other = buckets[(i + 1) % 3]!
        const newest = eventually('it is told', WAIT_MS, () => other.newest([key]))
        const [got, [entry]] = await Promise.all([other.get(key), newest])
        if ((got?.revision ?? 0) < revision) old.get++
        if ((entry?.revision ?? 0) < revision) old.newest++
      }
    } finally {
      isOver = true
      await Promise.all(loaders)
    }
    console.log(`of ${PUTS} reads right behind a put ${old.get} plain gets were old, ${old.newest} others`)
    expect(old.newest).toBe(0)
  })

  test('QUERY-15: one that was cut off while it led tells an old end for long, and no fence gets through there', async () => {
    const [far, near] = [buses[0]!, buses[2]!]
    await cluster.lead('cln-log-0', 0)
    const before = await buckets[0]!.put('key', bytes('before'))
    await write(near)
    cluster.cut(0)
    const cutMs = performance.now()
    const acknowledged = await eventually('another leads', WAIT_MS, () => write(near))
    const ledMs = performance.now() - cutMs
    const newer = await eventually('the bucket has a leader', WAIT_MS, () => buckets[2]!.put('key', bytes('after')))

    expect((await far.logs.state(logName(0))).lastSeq, 'the old end').toBeLessThan(acknowledged)
    const got = await eventually('its own copy is asked', WAIT_MS, () => buckets[0]!.get('key'))
    expect(got.revision, 'the old value').toBe(before)
    await expect(endsOf(far).of(0)).rejects.toMatchObject({ kind: 'unavailable' })
    await expect(buckets[0]!.newest(['key'])).rejects.toMatchObject({ kind: 'unavailable' })
    // A question may still go to the one that is gone, and is refused then: it is never answered by what is old.
    const near0 = await eventually('the end is told on the other side', WAIT_MS, () => endsOf(near).of(0))
    expect(near0.minSeq).toBeGreaterThan(acknowledged)
    const newest = await eventually('the value is told on the other side', WAIT_MS, () => buckets[2]!.newest(['key']))
    expect(newest[0]?.revision).toBe(newer)
    await sleep(5_000)
    const { lastSeq } = await far.logs.state(logName(0))
    const goneMs = performance.now() - cutMs
    console.log(
      `another led ${Math.round(ledMs)} ms after the cut; at ${Math.round(goneMs)} ms the old one told ${lastSeq}`,
    )

    cluster.heal(0)
    await until('what was cut off tells the end again', async () => {
      const { minSeq } = await endsOf(far).of(0)
      return minSeq > acknowledged && (await buckets[0]!.newest(['key']))[0]?.revision === newer
    })
  })
})

/** Longer than from the cut to the election of another leader, and until an actor there counts its view of the ring as unconfirmed. */
const CUT_MS = 25_000

describe.skipIf(isSkipped)('actors at a server that is cut off while it leads', () => {
  const running: ChildProcess[] = []
  let cluster: LinkedServers
  let load: Load | undefined
  let readers: Readers | undefined

  beforeAll(async () => {
    cluster = await startLinkedServers()
  })

  afterAll(async () => {
    cluster.heal(0)
    await load?.abandon().catch(() => {})
    await readers?.end()
    await Promise.all(running.map((child) => endProcess(child)))
    await cluster.stop()
  })

  async function start(side: 'near' | 'far', roles: readonly string[]): Promise<string> {
    const { url } = cluster.servers[side === 'near' ? 2 : 0]!
    const door = `127.0.0.1:${await freePort()}`
    for (const role of roles) {
      const args = role === 'gateway' ? [`--listen=${door}`, '--allow-unauthenticated'] : []
      running.push(startActor(role, { nats: url, id: `${role}-${side}`, args }).process)
    }
    return `http://${door}`
  }

  test('LOG-20: answer no strong read with less than was acknowledged on the other side', async () => {
    const shape = ['--partitions=1', '--replication-factor=2', '--log-replicas=3', '--log-bytes-max=64MiB']
    await until(
      'the logs are there',
      async () => (await carillon(['setup', '--nats', cluster.servers[2]!.url, ...shape])).code === 0,
    )
    const near = await start('near', ['ingester', 'distributor', 'querier', 'gateway'])
    const far = await start('far', ['ingester', 'querier', 'gateway'])
    await ringServedBy(near, ['ingester-near', 'ingester-far'])
    await cluster.lead('cln-log-0', 0)
    load = startLoad({ url: () => near, seed: 5, senders: 2, pauseMs: 40 })
    readers = startReaders(far, load.ledger)
    await until('strong reads are answered', () => readers!.answered.strong > 20)

    const cutMs = performance.now()
    cluster.cut(0)
    await sleep(CUT_MS)
    const acknowledged = load.acknowledgedAtMs().filter((atMs) => atMs > cutMs + 3_000)
    cluster.heal(0)
    await readers.end()
    const since = readers.faults.filter(({ atMs }) => atMs > cutMs)
    const stale = since.filter(({ kind, consistency }) => kind === 'incomplete' && consistency === 'strong')
    console.log(
      `cut off for ${CUT_MS} ms: ${acknowledged.length} pushes acknowledged meanwhile, the first after ${Math.round(acknowledged[0]! - cutMs)} ms; ` +
        `strong reads on the other side: ${since.filter(({ consistency }) => consistency === 'strong').length} failed, ${stale.length} too few`,
    )
    expect(acknowledged.length).toBeGreaterThan(20)
    expect(stale.map(({ text }) => text)).toEqual([])
  })
})
