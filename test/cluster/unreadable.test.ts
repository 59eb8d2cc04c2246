// What stands in the buckets and cannot be read, in a running system: for every kind of record, beside those that matter and over them.
// Reads and writes go on past every bound after which they did not, whoever is started again comes up, and each entry is named once.
import { setTimeout as sleep } from 'node:timers/promises'
import { expect, test } from 'vitest'
import { keyFor, type RecordKey } from '../../shared/bus/record.ts'
import { clusterToken, electionRecord } from '../../shared/contracts/elections.ts'
import { markRecord } from '../../shared/contracts/log.ts'
import { recordKinds } from '../record-kinds.ts'
import { eventually, WAIT_MS } from '../waiting.ts'
import { ask, pushUntilTaken, pushWrite, sample, valuesOf } from './client.ts'
import { afterwards, cleanUpAfterEach, isSkipped } from './fault-ground.ts'
import { connectPlain, type PlainNats } from './nats-plain.ts'
import { killEverything } from './processes.ts'
import { freePort, pidOf, type System, startSystem } from './system.ts'

cleanUpAfterEach()

const UNHEALTHY_MS = 2_000
const LEASE_MS = 2_000
/** Twice a view's bound is that of writes; some more, so that what goes wrong late is seen. */
const WATCHED_MS = 4 * UNHEALTHY_MS
const LINES_PER_SECOND_MAX = 3

const times = ['--heartbeat=500ms', `--unhealthy-after=${UNHEALTHY_MS}ms`, `--lease=${LEASE_MS}ms`]
const often = ['--segment=2s', '--segment-min=1s', '--flush=500ms', '--compact-every=500ms', '--checkpoint=500ms']
const args = [...times, ...often, '--ha-renew=500ms', '--ha-kv-grace=1s', '--ha-takeover=3s', '--high-water=500ms']

const JUNK: readonly string[] = ['junk', 'null', '{}', '[]', '7e99', '{"v":99}', '{"v":1}', '']

interface Named {
  readonly id: string
  readonly key: string
  readonly revision: number
}

/** Lines of the log from `from` on that are more than news. */
function warnings(system: System, from: number): { id: string; text: string; key?: string; revision?: number }[] {
  return system.logLines
    .slice(from)
    .filter((line) => line.startsWith('{'))
    .map((line) => JSON.parse(line))
    .filter(({ level }) => level === 'warn' || level === 'error')
}

function named(system: System, from = 0): Named[] {
  return warnings(system, from).flatMap(({ id, text, key, revision }) =>
    text.includes('is passed over') ? [{ id, key: key!, revision: revision! }] : [],
  )
}

const nameOf = ({ id, key, revision }: Named): string => `${id} ${key} ${revision}`

async function start(): Promise<{ system: System; nats: PlainNats }> {
  const system = await startSystem({ args: [...args, '--log-level', 'info'], port: await freePort() })
  afterwards(() => killEverything(system))
  const nats = await connectPlain(system.ready)
  afterwards(() => nats.close())
  await pushUntilTaken(system.url, { series: [sample('before', 1)] })
  return { system, nats }
}

function put(nats: PlainNats, place: Pick<RecordKey<string>, 'bucket'>, key: string, value: string): void {
  nats.publish(`$KV.cln-${place.bucket}.${key}`, value)
}

/** A write and a read, each answered well. */
async function works(system: System, value: number): Promise<void> {
  const pair = ['__replica__', 'a', 'cluster', 'eu']
  const series = [sample('after', value), sample('ofpair', value, pair)]
  const { status, text } = await pushWrite(system.url, { series })
  expect({ status, text }).toEqual({ status: 204, text: '' })
  const { status: answered, body } = await ask(system.url, '/api/v1/query', { query: 'before' })
  expect({ answered, body }).toMatchObject({ answered: 200, body: { status: 'success' } })
}

/** All the time, every 200 ms, past the bounds. */
async function worksOn(system: System): Promise<void> {
  const endMs = performance.now() + WATCHED_MS
  for (let value = 0; performance.now() < endMs; value++) {
    await works(system, value)
    await sleep(200)
  }
}

async function isNotFlooded(system: System): Promise<void> {
  await sleep(500)
  const from = system.logLines.length
  await sleep(3_000)
  const lines = warnings(system, from)
  expect(lines.length, lines.map(({ text }) => text).join('\n')).toBeLessThan(3 * LINES_PER_SECOND_MAX)
}

async function comesUpAgain(system: System, id: string): Promise<void> {
  await sleep(500) // what the one before has still to say
  const from = system.logLines.length
  process.kill(pidOf(system, id), 'SIGKILL')
  const isStarted = () =>
    system.logLines.slice(from).some((line) => line.includes('"ready"') && line.includes(`"${id}"`))
  await eventually(`${id} starts again`, WAIT_MS, () => isStarted() || undefined)
  await eventually(`the system works with a new ${id}`, WAIT_MS, async () => {
    await works(system, 1)
    return true
  })
  const again = named(system, from).filter((each) => each.id === id)
  expect(again.map(nameOf)).toEqual([...new Set(again.map(nameOf))])
}

test.skipIf(isSkipped)('beside what matters: under keys of nobody, and under keys that are none', async () => {
  const { system, nats } = await start()
  const from = system.logLines.length
  for (const { place, ghosts, noKeys } of recordKinds) {
    for (const [i, value] of JUNK.entries()) put(nats, place, ghosts(i), value)
    for (const key of noKeys) put(nats, place, key, '{"v":1}')
  }
  await nats.flush()
  await worksOn(system)
  const names = named(system, from).map(nameOf)
  expect(names).toEqual([...new Set(names)])
  expect(names.filter((name) => name.includes('member.')).length).toBeGreaterThan(JUNK.length)
  await isNotFlooded(system)
  for (const { id, role } of system.ready.processes) if (role !== 'nats-server') await comesUpAgain(system, id)
  await worksOn(system)
  await isNotFlooded(system)
  const page = await (await fetch(`${system.url}/metrics`)).text()
  for (const [record, kind] of [
    ['member', 'unreadable'],
    ['member', 'newer-version'],
    ['highwater', 'unreadable'],
    ['election', 'newer-version'],
    ['lease', 'unreadable'],
    ['upload', 'unreadable'],
    ['limits', 'newer-version'],
    ['manifest', 'unreadable'],
  ]) {
    expect(page).toMatch(
      new RegExp(`^carillon_records_passed_over_total\\{[^}]*record="${record}"[^}]*reason="${kind}"`, 'm'),
    )
  }
})

test.skipIf(isSkipped)(
  'over what matters: a living member, an election, marks, leases, limits are written anew',
  async () => {
    const { system, nats } = await start()
    await works(system, 0)
    const tenant = 'anonymous'
    const over = () => {
      for (const id of system.ready.processes.filter(({ role }) => role !== 'nats-server').map((each) => each.id))
        put(nats, { bucket: 'ring' }, `member.${id}`, 'junk')
      put(nats, markRecord, keyFor(markRecord, { partition: 0 }), 'junk')
      put(nats, electionRecord, keyFor(electionRecord, { tenant, cluster: clusterToken('eu') }), 'junk')
      for (const key of ['highwater.0.distributor-1', 'checkpoint.0.ingester-1'])
        put(nats, { bucket: 'log' }, key, '{}')
      for (const kind of ['lease', 'scrub', 'scrubbing']) put(nats, { bucket: 'blocks' }, `${kind}.${tenant}`, 'null')
      put(nats, { bucket: 'limits' }, tenant, '[]')
      return nats.flush()
    }
    await over()
    await worksOn(system)
    for (const id of ['distributor-1', 'ingester-1', 'querier-1', 'compactor-1', 'gateway-1']) {
      await over()
      await comesUpAgain(system, id)
    }
    await worksOn(system)
    await isNotFlooded(system)
    await eventually('what was pushed meanwhile can be read', WAIT_MS, async () => {
      expect((await valuesOf(system.url, 'count(count_over_time(after[5m]) > 10)'))[0]).toBe('1')
      return true
    })
    const { body } = await ask(system.url, '/api/v1/ha/elections', {})
    expect(body.data.elections).toMatchObject([{ cluster: 'eu', replica: 'a' }])
    await eventually('segments are opened, and flushed', WAIT_MS, async () => {
      const { body } = await ask(system.url, '/api/v1/status/partitions', {})
      const [{ owners }] = body.data.partitions
      expect(owners[0].flushed).toBeGreaterThan(2)
      return true
    })
  },
)

test.skipIf(isSkipped)(
  'over the number of partitions: what is running goes on, what is started answers nothing until it is right',
  async () => {
    const { system, nats } = await start()
    put(nats, { bucket: 'ring' }, 'partitions', '{"v":1,"count":1e9}')
    await nats.flush()
    await worksOn(system)
    const from = system.logLines.length
    process.kill(pidOf(system, 'querier-1'), 'SIGKILL')
    await eventually(
      'the querier names it',
      WAIT_MS,
      () => named(system, from).some(({ key }) => key === 'partitions') || undefined,
    )
    await eventually('it refuses, and does not answer with less than there is', WAIT_MS, async () => {
      const { status, body } = await ask(system.url, '/api/v1/query', { query: 'before' })
      expect(status).toBe(503)
      expect(JSON.stringify(body)).toContain('err-carillon-ring-unconfirmed')
      return true
    })
    put(nats, { bucket: 'ring' }, 'partitions', '{"v":1,"count":1,"readable":1,"writable":1,"replicationFactor":1}')
    await nats.flush()
    await eventually('put right, it answers', WAIT_MS, async () => {
      await works(system, 1)
      return true
    })
  },
)
