// Deletions by a compactor that sees logs and manifests as they were, or as they will be.
import { afterEach, beforeEach, expect, test } from 'vitest'
import { Deletions } from '../../../services/compactor/retire/deletions.ts'
import { systemClock } from '../../../shared/base/clock.ts'
import { seededRandom } from '../../../shared/base/random.ts'
import { openBlocks } from '../../../shared/blocks/open.ts'
import type { Blocks } from '../../../shared/blocks/port.ts'
import { createMemoryHub, type MemoryHub } from '../../../shared/bus/memory/memory-bus.ts'
import type { Bus } from '../../../shared/bus/port.ts'
import type { RemoveRequest } from '../../../shared/contracts/deletes.ts'
import { encodeMark, logConfig, logName, markSubject } from '../../../shared/contracts/log.ts'
import { KnownEnds } from '../../../shared/kv/known-ends.ts'
import { type MemoryObjects, memoryObjects } from '../../../shared/objects/memory-objects.ts'
import { silentLog } from '../../../shared/telemetry/log.ts'
import { withLateWatches, withLogs } from '../../altered-bus.ts'

const asked: RemoveRequest = {
  ...{ tenant: 'acme', id: 'd1', kind: 'series', startMs: 0, endMs: 1000, askedBy: 'test', asOf: 0 },
  selectors: [[{ name: '__name__', operator: '=', value: 'a' }]],
}
const LATE_MS = 300

let hub: MemoryHub
let objects: MemoryObjects
const opened: Blocks[] = []

async function mark(number: number): Promise<void> {
  const payload = encodeMark({ number, writer: 'test', nonce: `n${number}` })
  await hub.connect(`leader ${number}`).logs.append(logName(0), markSubject(0), payload, { timeoutMs: 1_000 })
}

beforeEach(async () => {
  objects = memoryObjects()
  hub = createMemoryHub({ clock: systemClock, random: seededRandom(1) })
  const { logs } = hub.connect('setup')
  await logs.ensure(logConfig(0, { bytesMax: 1 << 20, replicas: 1 }))
  await mark(1)
})
afterEach(() => {
  for (const blocks of opened.splice(0)) blocks.close()
})

async function compactor(id: string, view: (bus: Bus) => Bus = (bus) => bus): Promise<Deletions> {
  const bus = view(hub.connect(id))
  const world = { bus, clock: systemClock, log: silentLog }
  const blocks = await openBlocks({ ...world, random: seededRandom(2), objects })
  opened.push(blocks)
  return new Deletions({
    ...{ ...world, blocks: () => blocks, config: { undoMs: 3_600_000 }, onCleaned: () => {} },
    random: seededRandom(3),
    ends: new KnownEnds({ ...world, bus: hub.connect(`${id}-ends`), id }),
    membership: { partitionCount: () => 1, confirm: async () => {}, isConfirmed: () => true },
  })
}

test('DELETE-3: a mark that comes between a fence and its reading back is not taken for the one before it', async () => {
  const deletions = await compactor('one', (bus) =>
    withLogs(bus, (logs) => ({
      append: async (...args) => {
        const stored = await logs.append(...args)
        await mark(2)
        return stored
      },
    })),
  )
  const { entry } = await deletions.remove(asked)
  expect(entry).toMatchObject({ state: 'active', positions: { 0: { segment: 1, seq: 2 } } })
})

test('DELETE-3: a log that was made anew around a fence gives no position: the next fence stands in the new one', async () => {
  const lives = ['before', 'after', 'after', 'after']
  const deletions = await compactor('one', (bus) =>
    withLogs(bus, (logs) => ({
      state: async (log) => ({ ...(await logs.state(log)), incarnation: lives.shift() ?? 'after' }),
    })),
  )
  const { entry } = await deletions.remove(asked)
  expect(entry).toMatchObject({ state: 'active', positions: { 0: { incarnation: 'after', seq: 3 } } })
})

test('what was asked for a moment ago is taken back by a compactor that has not heard of it yet', async () => {
  let isLate = false
  const wait = () => new Promise<void>((resolve) => void systemClock.after(isLate ? LATE_MS : 0, resolve))
  const [one, two] = [await compactor('one'), await compactor('two', (bus) => withLateWatches(bus, wait))]
  await one.remove({ ...asked, id: 'd0' })
  await two.list({ tenant: 'acme' }) // from here on it has a manifest to go by
  isLate = true
  await one.remove({ ...asked, asOf: 2 })
  const { entry } = await two.undo({ tenant: 'acme', id: 'd1', askedBy: 'test' })
  expect(entry).toMatchObject({ id: 'd1', state: 'undone' })
})

test('DELETE-6: whoever asks for the version has seen what was answered before, also where the watch is late', async () => {
  const wait = () => new Promise<void>((resolve) => void systemClock.after(LATE_MS, resolve))
  const [one, two] = [await compactor('one'), await compactor('two', (bus) => withLateWatches(bus, wait))]
  await one.remove(asked)
  const { version: asOf } = await two.list({ tenant: 'acme', isBrief: true })
  expect((await two.remove({ ...asked, id: 'd2', asOf })).entry).toMatchObject({ id: 'd2', state: 'active' })
})

test('DELETE-6: a deletion is placed by a compactor whose watch has not shown what it has written itself', async () => {
  let isLate = false
  const wait = () => new Promise<void>((resolve) => void systemClock.after(isLate ? 1e6 : 0, resolve))
  const one = await compactor('one', (bus) => withLateWatches(bus, wait))
  await one.remove({ ...asked, id: 'd0' })
  await one.list({ tenant: 'acme' })
  isLate = true
  for (const asOf of [2, 0])
    expect((await one.remove({ ...asked, asOf })).entry).toMatchObject({ id: 'd1', state: 'active' })
})
