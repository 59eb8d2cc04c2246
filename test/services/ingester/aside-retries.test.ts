// What was set aside is tried again beside everything else, and only what was brought in is ended.
import { afterEach, beforeEach, expect, test } from 'vitest'
import { addSupplement } from '../../../services/ingester/flush/after-flush.ts'
import { AsideRetries } from '../../../services/ingester/flush/aside-retries.ts'
import { Asides } from '../../../services/ingester/flush/asides.ts'
import { inlineBuilder } from '../../../services/ingester/flush/block-builder.ts'
import type { FlushDeps, Holder } from '../../../services/ingester/flush/flush.ts'
import { flushMetrics } from '../../../services/ingester/flush/flush-metrics.ts'
import { PartitionState } from '../../../services/ingester/state/partition-state.ts'
import { sleep } from '../../../shared/base/clock.ts'
import { seededRandom } from '../../../shared/base/random.ts'
import type { ObjectStore } from '../../../shared/objects/port.ts'
import { silentLog } from '../../../shared/telemetry/log.ts'
import { createMetrics } from '../../../shared/telemetry/metrics.ts'
import { StringTable } from '../../../shared/tsdb/head/string-table.ts'
import { FlushGround, HOUR_MS } from './flush-ground.ts'
import { LogWriter } from './log-writer.ts'

let ground: FlushGround
beforeEach(async () => {
  ground = new FlushGround()
  await ground.open()
})
afterEach(() => ground.close())

const START_MS = 1_700_000_000_000 - (1_700_000_000_000 % (2 * HOUR_MS))
const BAD = 'bad'

const countsOf = (tenant: string) => (ground.manifest(tenant)?.blocks ?? []).map(({ sampleCount }) => sampleCount)
const samplesOf = (tenant: string) => countsOf(tenant).reduce((sum, count) => sum + count, 0)
const asideOf = (id: string) => ground.running.get(id)!.status()[0]!.aside ?? []
const objectsAside = async () =>
  (await ground.soon(ground.objects.list(`${BAD}/aside/`, { timeoutMs: 1_000 }))).map(({ name }) => name)

/** Segments 1 to `count`, each with one sample of each of these tenants, flushed or set aside. */
async function writeSegments(count: number, tenants: readonly string[], first = 1): Promise<void> {
  if (first === 1) await ground.mark(1)
  for (let segment = first; segment < first + count; segment++) {
    for (const tenant of tenants) await ground.batch([['a', START_MS + segment, segment]], tenant)
    await ground.mark(segment + 1)
    await ground.until(() => ground.blocks.flushed(0) === segment, `flush ${segment}`)
  }
}

/** A process that sets aside and tries again, by its own view of the bucket. */
async function another(id: string, objects: ObjectStore = ground.objects) {
  const { clock } = ground
  const [metrics, strings, random] = [createMetrics(), new StringTable(), seededRandom(7)]
  const blocks = { ...ground.blocks, objects } as typeof ground.blocks
  const told = { blocks, clock, log: silentLog, metrics }
  const asides = new Asides({ ...told, random, id, patienceMs: 0 })
  await ground.soon(asides.start())
  const builder = inlineBuilder()
  const deps = { ...told, metrics: flushMetrics(metrics), strings, asides, builder } as unknown as FlushDeps
  const retries = new AsideRetries({
    ...{ ...told, builder, asides },
    add: (holder, of, added) => addSupplement(holder, of, added, deps),
  })
  const holds = (samples: readonly (readonly [string, number, number])[]): Holder => {
    const writer = new LogWriter()
    const damaged = () => expect.unreachable()
    const incarnation = () => ground.owner('i1').incarnation
    const state = new PartitionState({
      strings,
      incarnation,
      onDamage: damaged,
      onSkipped: damaged,
      isForgetful: false,
    })
    state.applyMark(1, writer.mark(1))
    if (samples.length > 0) state.applyBatch(2, writer.batch(samples, writer.session, BAD).seal())
    return { partition: 0, state }
  }
  const take = (holder: Holder) =>
    ground.soon(asides.take(holder, { tenant: BAD, segment: 1 }, new RangeError('makes no block'), deps))
  return { asides, holds, take, retry: () => ground.soon(retries.retry([holds([])])) }
}

test('ASIDE-4: nobody’s flush waits for what is tried again, however much of a tenant is aside', async () => {
  const count = 24
  ground.poisoned.add(BAD)
  await ground.start('i1')
  await writeSegments(count, [BAD, 'good'])
  expect(asideOf('i1')).toHaveLength(count)
  ground.onBuild = () => sleep(ground.clock, 10_000)
  ground.poisoned.clear() // all of it comes in within the next minutes, one after the other
  let worstMs = 0
  for (let segment = count + 1; asideOf('i1').length > 0; segment++) {
    await ground.batch([['a', START_MS + segment, segment]], 'good')
    const closedMs = ground.clock.monotonic()
    await ground.mark(segment + 1)
    await ground.until(() => ground.blocks.flushed(0) === segment, `flush ${segment}`)
    worstMs = Math.max(worstMs, ground.clock.monotonic() - closedMs)
    await ground.pass(20_000)
  }
  expect(samplesOf(BAD)).toBe(count)
  expect(worstMs, 'its own build, no other').toBeLessThan(15_000)
}, 60_000)

test('ASIDE-4: a tenant of which one fails rests, and others of its own kind do not', async () => {
  for (const tenant of ['bad', 'worse']) ground.poisoned.add(tenant)
  await ground.start('i1')
  await writeSegments(6, ['bad', 'worse'])
  await ground.pass(11 * 60_000)
  let builds = 0
  ground.onBuild = async () => void builds++
  await ground.pass(9 * 60_000)
  expect(builds, 'each of them once at most').toBeLessThanOrEqual(2)
  ground.poisoned.delete('worse')
  await ground.pass(11 * 60_000)
  expect(samplesOf('worse'), 'one that comes in is followed by the next at once').toBe(6)
  expect(asideOf('i1')).toHaveLength(6)
})

test('ASIDE-4: one that can never be brought in keeps back no other of its tenant', async () => {
  ground.poisoned.add(BAD)
  await ground.start('i1')
  await writeSegments(4, [BAD])
  ground.poisoned.clear()
  const lost = (await objectsAside()).filter((name) => name.includes('/0-1/'))
  for (const name of lost) await ground.soon(ground.objects.delete(name, { timeoutMs: 1_000 }))
  for (let minutes = 0; minutes < 25; minutes++) await ground.pass(60_000)
  expect(samplesOf(BAD)).toBe(3)
  expect(asideOf('i1')).toEqual([expect.stringContaining('segment 1 is set aside')])
})

test('ASIDE-5: what another owner has set aside meanwhile is not taken for what was brought in', async () => {
  ground.poisoned.add(BAD)
  await ground.start('i1')
  await writeSegments(1, [BAD])
  await ground.until(() => ground.owner('i1').state.droppedUpTo === 1, 'freed memory')
  const gate = Promise.withResolvers<void>()
  let held = 0
  ground.onBuild = () => {
    held++
    return gate.promise
  }
  ground.poisoned.clear()
  for (let minutes = 0; minutes < 12 && held === 0; minutes++) await ground.pass(60_000)
  expect(held, 'i1 is at it').toBe(1)
  const i2 = await another('i2')
  await i2.retry() // meanwhile it leads
  await ground.pass(100)
  expect([samplesOf(BAD), i2.asides.count]).toEqual([1, 0])
  const sample = ['a', START_MS + 1, 1] as const
  expect(await i2.take(i2.holds([sample, ['b', START_MS + 2, 2]]))).toBe(true)
  await ground.pass(100)
  gate.resolve()
  await ground.pass(5_000)
  await i2.retry()
  await ground.pass(100)
  expect([samplesOf(BAD), i2.asides.count, await objectsAside()], 'it came into blocks').toEqual([3, 0, []])
})

test('ASIDE-5: one that stood still while it ended a record takes nothing of the next one', async () => {
  ground.poisoned.add(BAD)
  await ground.start('i1')
  await writeSegments(1, [BAD])
  await ground.until(() => ground.owner('i1').state.droppedUpTo === 1, 'freed memory')
  ground.hub.pause('i1')
  const gate = Promise.withResolvers<void>()
  const late = new Proxy(ground.objects, {
    get: (target, key) => {
      const value = Reflect.get(target, key) as (...args: unknown[]) => Promise<unknown>
      if (key !== 'delete') return typeof value === 'function' ? value.bind(target) : value
      return (...args: unknown[]) => gate.promise.then(() => value.apply(target, args))
    },
  })
  const [slow, quick] = [await another('i1', late), await another('i2')]
  const ending = slow.retry()
  await ground.pass(1_000)
  await quick.retry()
  await ground.pass(1_000)
  expect([quick.asides.count, await objectsAside()]).toEqual([0, []])
  const sample = ['a', START_MS + 1, 1] as const
  expect(await slow.take(slow.holds([sample])), 'by the same process as before').toBe(true)
  await ground.pass(1_000)
  gate.resolve()
  await ending
  await ground.pass(1_000)
  expect([quick.asides.count, await objectsAside()], 'neither its objects nor its record: it was read').toEqual([0, []])
})
