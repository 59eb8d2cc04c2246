// Deleting from end to end, on the memory bus in real time: over HTTP, with segments of a fraction of a second that are flushed, dropped
// and compacted meanwhile.
import { afterEach, beforeEach, expect, test } from 'vitest'
import { runDelete } from '../../services/cli/delete-command.ts'
import { compactor } from '../../services/compactor/compactor.ts'
import { compactorSettings } from '../../services/compactor/config.ts'
import { inlineMerger } from '../../services/compactor/worker/inline-worker.ts'
import { distributorSettings } from '../../services/distributor/config.ts'
import { distributor } from '../../services/distributor/distributor.ts'
import { gatewaySettings } from '../../services/gateway/config.ts'
import { type Gateway, gateway } from '../../services/gateway/gateway.ts'
import { ingesterSettings } from '../../services/ingester/config.ts'
import { ingester } from '../../services/ingester/ingester.ts'
import { querierSettings } from '../../services/querier/config.ts'
import { querier } from '../../services/querier/querier.ts'
import { needs } from '../../services/roles.ts'
import { systemClock } from '../../shared/base/clock.ts'
import { seededRandom } from '../../shared/base/random.ts'
import { openBlocks } from '../../shared/blocks/open.ts'
import type { Blocks } from '../../shared/blocks/port.ts'
import type { Actor, RunningActor } from '../../shared/bus/actor.ts'
import { createMemoryHub } from '../../shared/bus/memory/memory-bus.ts'
import { runActor } from '../../shared/bus/run-actor.ts'
import { defaultsOf } from '../../shared/config/settings.ts'
import type { Role } from '../../shared/contracts/member.ts'
import { bootstrap } from '../../shared/membership/bootstrap.ts'
import type { ServiceDeps } from '../../shared/membership/deps.ts'
import { asMember } from '../../shared/membership/member-actor.ts'
import { joinRing } from '../../shared/membership/membership.ts'
import { memoryObjects } from '../../shared/objects/memory-objects.ts'
import { silentLog } from '../../shared/telemetry/log.ts'
import { createMetrics } from '../../shared/telemetry/metrics.ts'
import { encodeWriteV1 } from '../../shared/wire/remote-write-encode.ts'
import { compress } from '../../shared/wire/snappy.ts'

const PARTITIONS = 2
const POLL = { timeout: 15_000, interval: 50 }
const BASE_S = Math.floor(Date.now() / 1000) - 600

type MemberDeps = ServiceDeps & { readonly role: Role }

let running: RunningActor[] = []
let door: Gateway
let blocks: Blocks

beforeEach(async () => {
  const hub = createMemoryHub({ clock: systemClock, random: seededRandom(1) })
  const options = { partitions: PARTITIONS, replicationFactor: 1, logBytesMax: 64 << 20, logReplicas: 1 }
  await bootstrap(hub.connect('admin'), options)
  const objects = memoryObjects()
  const depsOf = async (role: Role): Promise<MemberDeps> => {
    const bus = hub.connect(role)
    const self = { id: `${role}-1`, role, zone: '', incarnation: role, version: 'test', capacity: 0 }
    const times = { heartbeatMs: 200, unhealthyAfterMs: 5_000, forgetAfterMs: 600_000 }
    const membership = await joinRing({ bus, clock: systemClock, self, options: times, onError: () => {} })
    const world = { bus, objects, clock: systemClock, random: seededRandom(2), log: silentLog }
    return { ...world, metrics: createMetrics(), ...self, membership }
  }
  const start = (actor: Actor, deps: MemberDeps) => {
    const { bus, clock, random, log } = deps
    running.push(runActor(asMember(actor, deps), { bus, clock, random, log }))
  }
  const segments = { segmentMs: 700, segmentMinMs: 300, flushMs: 50, dropAfterMs: 200 }
  const [i, d, q, c, g] = await Promise.all(
    (['ingester', 'distributor', 'querier', 'compactor', 'gateway'] as const).map(depsOf),
  )
  start(ingester({ ...i!, config: defaultsOf(ingesterSettings, segments) }), i!)
  start(distributor({ ...d!, config: defaultsOf(distributorSettings) }), d!)
  start(querier({ ...q!, config: defaultsOf(querierSettings) }), q!)
  const compaction = { compactEveryMs: 200, compactDelayMs: 0, leaseMs: 2_000, undoMs: 3_600_000 }
  start(compactor({ ...c!, config: defaultsOf(compactorSettings, compaction), merger: inlineMerger }), c!)
  door = gateway({ ...g!, needs, config: defaultsOf(gatewaySettings, { listen: '127.0.0.1:0' }) })
  start(door, g!)
  await Promise.all(running.map((actor) => actor.ready))
  blocks = await openBlocks({ ...d!, bus: hub.connect('looker') })
})

afterEach(async () => {
  blocks.close()
  for (const actor of running) await actor.stop()
  running = []
})

function http(path: string, method = 'GET', body?: Uint8Array<ArrayBuffer>): Promise<Response> {
  const headers = { 'X-Scope-OrgID': 'acme', 'X-Read-Consistency': 'strong', 'Content-Encoding': 'snappy' }
  return fetch(`http://${door.address()}${path}`, { method, headers, ...(body && { body }) })
}

/** One sample of each series for each value, a second apart from `from` on. */
async function push(names: readonly string[], from: number, values: readonly number[]): Promise<void> {
  const samples = values.map((value, i) => ({ time: (BASE_S + from + i) * 1000, value }))
  const series = names.map((name) => ({ labels: ['__name__', name, 'job', 'j'], samples }))
  const body = Uint8Array.from(compress(encodeWriteV1({ series })))
  const answer = await http('/api/v1/push', 'POST', body)
  expect(answer.status, await answer.text()).toBe(204)
}

/** All samples of the job, as name → values by time. */
async function seen(): Promise<Record<string, string[]>> {
  const answer = await http(`/api/v1/query?query=${encodeURIComponent('{job="j"}[1h]')}&time=${BASE_S + 1000}`)
  const { data } = (await answer.json()) as {
    data: { result: { metric: { __name__: string }; values: [number, string][] }[] }
  }
  return Object.fromEntries(
    data.result.map(({ metric, values }) => [metric.__name__, values.map(([at, value]) => `${at - BASE_S}=${value}`)]),
  )
}

async function call(path: string, method = 'POST'): Promise<{ status: number; id: string | null; data: unknown }> {
  const answer = await http(`/api/v1/admin/${path}`, method)
  const text = await answer.text()
  const data = text === '' ? undefined : (JSON.parse(text) as { data?: unknown }).data
  return { status: answer.status, id: answer.headers.get('x-carillon-deletion'), data }
}

async function statesOf(): Promise<Record<string, string>> {
  const { data } = await call('tsdb/deletions', 'GET')
  const { deletions } = data as { deletions: { id: string; state: string }[] }
  return Object.fromEntries(deletions.map(({ id, state }) => [id, state]))
}

/** Until everything that was written by now is in blocks and out of memory. */
async function flushed(): Promise<void> {
  const before = Array.from({ length: PARTITIONS }, (_, partition) => blocks.flushed(partition))
  await expect
    .poll(() => before.every((segment, partition) => blocks.flushed(partition) > segment + 2), POLL)
    .toBe(true)
}

const match = (selector: string) => `match[]=${encodeURIComponent(selector)}`

test('deleted series are gone at once, in heads and in blocks, and come back when that is taken back', async () => {
  await push(['a', 'b'], 0, [1, 2, 3])
  await flushed()
  await push(['a', 'b'], 10, [4, 5])
  expect(await seen()).toEqual({ a: ['0=1', '1=2', '2=3', '10=4', '11=5'], b: ['0=1', '1=2', '2=3', '10=4', '11=5'] })
  const window = `start=${BASE_S + 1}&end=${BASE_S + 10}`
  const preview = await call(`tsdb/delete_series?${match('a')}&${window}&preview=true`)
  expect(preview).toMatchObject({ status: 200, data: { series: 1, samples: 3 } })
  const deleted = await call(`tsdb/delete_series?${match('a')}&${window}`)
  expect(deleted.status).toBe(204)
  const without = { a: ['0=1', '11=5'], b: ['0=1', '1=2', '2=3', '10=4', '11=5'] }
  expect(await seen()).toEqual(without)
  await push(['a'], 1, [7]) // written again: that is new
  const again = { ...without, a: ['0=1', '1=7', '11=5'] }
  expect(await seen()).toEqual(again)
  await flushed()
  expect(await seen()).toEqual(again)
  expect(await statesOf()).toEqual({ [deleted.id!]: 'active' })
  expect((await call(`tsdb/deletions/${deleted.id}/undo`)).status).toBe(204)
  expect((await call(`tsdb/deletions/${deleted.id}/undo`)).status, 'twice is once').toBe(204)
  expect(await seen()).toEqual({ ...without, a: ['0=1', '1=7', '2=3', '10=4', '11=5'] }) // of two at one time the greater
  expect(await statesOf()).toEqual({ [deleted.id!]: 'undone' })
})

test('after clean_tombstones the samples are removed from blocks, and nothing takes that back', async () => {
  await push(['a', 'b'], 0, [1, 2, 3])
  const { id } = await call(`tsdb/delete_series?${match('{__name__=~"a|c"}')}`)
  await push(['a'], 20, [9])
  await flushed()
  expect((await call('tsdb/clean_tombstones', 'PUT')).status).toBe(204)
  await expect.poll(statesOf, POLL).toEqual({ [id!]: 'removed' })
  expect(await seen()).toEqual({ a: ['20=9'], b: ['0=1', '1=2', '2=3'] })
  expect((await call(`tsdb/deletions/${id}/undo`)).status).toBe(409)
  const stored = blocks.manifest('acme')!.manifest
  expect(stored.blocks.reduce((sum, { sampleCount }) => sum + sampleCount, 0)).toBe(4)
})

test('a deleted tenant has nothing left, and begins anew when it writes again', async () => {
  await push(['a', 'b'], 0, [1, 2, 3])
  await flushed()
  await push(['a'], 10, [4])
  expect((await call('tenant/delete')).status).toBe(204)
  expect(await seen()).toEqual({})
  const names = await http('/api/v1/label/__name__/values')
  expect(await names.json()).toMatchObject({ data: [] })
  await push(['b'], 0, [5])
  await flushed()
  expect(await seen()).toEqual({ b: ['0=5'] })
  expect((await call('tenant/delete_status', 'GET')).data).toMatchObject({ tenant: 'acme', state: 'active' })
})

test('what cannot be a deletion is refused, and changes nothing', async () => {
  await push(['a'], 0, [1])
  for (const [path, status] of [
    ['tsdb/delete_series', 400],
    [`tsdb/delete_series?${match('{}')}`, 400],
    [`tsdb/delete_series?${match('a{')}`, 400],
    [`tsdb/delete_series?${match('a')}&start=x`, 400],
    [`tsdb/delete_series?${match('a')}&start=2&end=1`, 400],
    ['tsdb/deletions/nobody/undo', 404],
  ] as const) {
    expect((await call(path)).status, path).toBe(status)
  }
  expect(await seen()).toEqual({ a: ['0=1'] })
  expect(await statesOf()).toEqual({})
})

test('carillon delete: looked at, deleted in a span of time, listed and taken back; without a tenant nothing is', async () => {
  await push(['a', 'b'], 0, [1, 2, 3])
  const told = (verb: string, operands: readonly string[], more: { tenant?: string; start?: string } = {}) => {
    const of = { tenant: 'acme', start: '', end: '', credentialsFile: '', output: 'text' as const, ...more }
    return runDelete(verb, operands, { gateway: `http://${door.address()}`, ...of })
  }
  const start = String(BASE_S + 1)
  expect(await told('preview', ['a', '{__name__="b"}'], { start })).toBe('2 series, 4 samples of tenant acme\n')
  const deleted = await told('series', ['a'], { start })
  expect(await seen()).toEqual({ a: ['0=1'], b: ['0=1', '1=2', '2=3'] })
  const [id] = Object.keys(await statesOf())
  expect(deleted).toContain(`carillon delete undo ${id} --tenant acme`)
  expect(await told('list', [])).toMatch(new RegExp(`${id}.*{__name__="a"}.*active`))
  expect(await told('undo', [id!])).toContain('taken back')
  expect(await seen()).toEqual({ a: ['0=1', '1=2', '2=3'], b: ['0=1', '1=2', '2=3'] })
  for (const [verb, operands, more] of [
    ['series', [], {}],
    ['series', ['a'], { tenant: '' }],
    ['tenant', ['a'], {}],
    ['tenant', [], { tenant: '' }],
    ['undo', [], {}],
    ['all', [], {}],
  ] as const)
    await expect(told(verb, operands, more), verb).rejects.toThrow('delete wants')
  await expect(told('series', ['a{'])).rejects.toThrow('parse error')
  expect(Object.keys(await statesOf())).toEqual([id])
})
