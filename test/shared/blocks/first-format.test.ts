// Manifests that an older version wrote: what their deletions mean now, and where they stand is found out before anybody goes by it.
import { beforeEach, expect, test } from 'vitest'
import { systemClock } from '../../../shared/base/clock.ts'
import { seededRandom } from '../../../shared/base/random.ts'
import { decodeManifest, encodeManifest } from '../../../shared/blocks/codec.ts'
import { hidersOf } from '../../../shared/blocks/delete-rules.ts'
import { openBlocks } from '../../../shared/blocks/open.ts'
import { createMemoryHub } from '../../../shared/bus/memory/memory-bus.ts'
import type { Bus } from '../../../shared/bus/port.ts'
import {
  BLOCKS_BUCKET,
  flushedKey,
  type Manifest,
  manifestKey,
  manifestObject,
  tenantKey,
} from '../../../shared/contracts/blocks.ts'
import { deleteSubject } from '../../../shared/contracts/deletes.ts'
import { encodeMark, logConfig, logName, markSubject } from '../../../shared/contracts/log.ts'
import { encodeTenant } from '../../../shared/model/tenant.ts'
import { type MemoryObjects, memoryObjects } from '../../../shared/objects/memory-objects.ts'
import { silentLog } from '../../../shared/telemetry/log.ts'
import { crc32c } from '../../../shared/wire/crc32c.ts'

const TENANT = 'acme'
const DAY = 86_400_000
const APPEND = { timeoutMs: 1_000 }
const block = {
  ...{ ulid: 'B', minTime: 0, maxTime: 1, seriesCount: 1, sampleCount: 1, chunkCount: 1, bytes: 1, metaSha256: '' },
  ...{ origin: { kind: 'flush', partition: 0, segment: 1 }, resolutionMs: 0 },
}
type Positions = Record<string, { segment: number; seq: number } | null>

/** Of the first format, as the version before wrote it. */
function deletion(id: string, state: string, positions: Positions, over: object = {}): object {
  const selectors = [[{ name: 'a', operator: '=', value: 'b' }]]
  const times = { startMs: 0, endMs: 1, askedAtMs: 5, undoUntilMs: Date.now() + DAY }
  return { id, kind: 'series', state, selectors, ...times, askedBy: 'me', positions, blocks: ['B'], ...over }
}

function bytesOf(deletes: readonly object[]): Buffer {
  const rest = { version: 3, previous: 'x', flushed: { 0: 1 }, blocks: [block], retired: [], fence: 2 }
  const body = Buffer.from(JSON.stringify({ tenant: TENANT, ...rest, deletes }))
  const crc = crc32c(body).toString(16).padStart(8, '0')
  return Buffer.from(`{"v":1,"crc32c":"${crc}","manifest":${body}}`)
}

let bus: Bus
let objects: MemoryObjects
let incarnation: string

/** Two partitions: M(1), a record of `here`, M(2) in each; flushed up to segment 1. */
beforeEach(async () => {
  bus = createMemoryHub({ clock: systemClock, random: seededRandom(1) }).connect('one')
  objects = memoryObjects()
  for (const partition of [0, 1]) {
    const log = logName(partition)
    await bus.logs.ensure(logConfig(partition, { bytesMax: 1 << 20, replicas: 1 }))
    const mark = (number: number) => encodeMark({ number, writer: 'w', nonce: 'n' })
    await bus.logs.append(log, markSubject(partition), mark(1), APPEND)
    await bus.logs.append(log, deleteSubject(partition, 'here'), Buffer.from('x'), APPEND)
    await bus.logs.append(log, markSubject(partition), mark(2), APPEND)
  }
  incarnation = (await bus.logs.state(logName(0))).incarnation
  const flushed = { v: 1, segment: 1, mark: { seq: 1, nonce: 'n', incarnation }, digests: {} }
  await (await bus.bucket(BLOCKS_BUCKET)).put(flushedKey(0), Buffer.from(JSON.stringify(flushed)))
})

async function opened(deletes: readonly object[]) {
  const bytes = bytesOf(deletes)
  const token = encodeTenant(TENANT)
  const bucket = await bus.bucket(BLOCKS_BUCKET)
  await bucket.put(manifestKey(token), bytes)
  await bucket.put(tenantKey(token), Buffer.from(JSON.stringify({ v: 1, tenant: TENANT, version: 3 })))
  await objects.create(manifestObject(token, 3), Uint8Array.from(bytes), { timeoutMs: 1_000 })
  return openBlocks({ bus, objects, clock: systemClock, random: seededRandom(2), log: silentLog })
}

test('what is history stays so, and is nothing that has to be settled', async () => {
  const blocks = await opened([
    deletion('u', 'undone', { 0: null }, { blocks: [] }),
    deletion('r', 'removed', { 0: { segment: 1, seq: 2 } }, { blocks: [] }),
    deletion('t', 'undoing', { 0: { segment: 1, seq: 2 } }),
  ])
  const { manifest } = blocks.manifest(TENANT)!
  expect(manifest.isUnsettled).toBeUndefined()
  expect(manifest.deletes).toMatchObject([
    { id: 'u', state: 'undone', positions: { 0: null } },
    { id: 'r', state: 'removed', positions: { 0: { incarnation: '', segment: 1, seq: 2 } } },
    { id: 't', state: 'undone', blocks: [] },
  ])
  expect((await blocks.update(TENANT, () => undefined)).manifest.version).toBe(3)
  blocks.close()
})

test('what is under way is settled by the first change: placed, found in the logs, or doubted', async () => {
  const known = { segment: 2, seq: 9 }
  const past = { undoUntilMs: Date.now() - DAY }
  const tenant = { kind: 'tenant', blocks: [] }
  const blocks = await opened([
    deletion('p', 'pending', { 0: known, 1: null }),
    deletion('a', 'active', { 0: known }),
    deletion('over', 'active', { 0: { segment: 1, seq: 2 } }, past),
    deletion('here', 'active', { 0: null, 1: null }, past),
    deletion('nowhere', 'active', { 0: known, 1: null }, past),
    deletion('gone', 'removed', { 0: { segment: 1, seq: 2 } }, tenant),
  ])
  const before = blocks.manifest(TENANT)!.manifest
  expect(before.isUnsettled).toBe(true)
  expect(hidersOf(before.deletes, 'B').map(({ id }) => id)).toEqual(['a', 'over', 'here', 'nowhere'])
  const { manifest } = await blocks.update(TENANT, () => undefined)
  const other = (await bus.logs.state(logName(1))).incarnation
  expect(manifest.deletes.map(({ id, state, positions, isDoubtful }) => [id, state, positions, isDoubtful])).toEqual([
    ['p', 'placing', { 0: { ...known, incarnation }, 1: null }, undefined],
    ['a', 'active', { 0: { ...known, incarnation } }, undefined],
    ['over', 'removing', { 0: { incarnation: '', segment: 1, seq: 2 } }, undefined],
    [
      'here',
      'removing',
      { 0: { incarnation, segment: 1, seq: 2 }, 1: { incarnation: other, segment: 1, seq: 2 } },
      undefined,
    ],
    ['nowhere', 'active', { 0: { ...known, incarnation }, 1: { incarnation: '', segment: 0, seq: 0 } }, true],
    ['gone', 'removed', { 0: { incarnation: '', segment: 1, seq: 2 } }, undefined],
  ])
  expect(manifest).toMatchObject({ version: 4, tomb: { 0: { segment: 1 } } })
  expect(manifest.isUnsettled).toBeUndefined()
  expect(await blocks.checkChain(TENANT)).toEqual([])
  blocks.close()
})

test('a record stands in the segment of the newest mark before it that can be read', async () => {
  const junk = () => bus.logs.append(logName(0), markSubject(0), Buffer.from('junk'), APPEND)
  for (let i = 0; i < 2; i++) await junk()
  const { seq } = await bus.logs.append(logName(0), deleteSubject(0, 'behind'), Buffer.from('x'), APPEND)
  for (let i = 0; i < 10; i++) await junk()
  await bus.logs.append(logName(0), deleteSubject(0, 'lost'), Buffer.from('x'), APPEND)
  const blocks = await opened([deletion('behind', 'active', { 0: null }), deletion('lost', 'active', { 0: null })])
  const [behind, lost] = (await blocks.update(TENANT, () => undefined)).manifest.deletes
  expect(behind!.positions).toEqual({ 0: { incarnation, segment: 2, seq } })
  expect([lost!.positions, lost!.isDoubtful]).toEqual([{ 0: { incarnation: '', segment: 0, seq: 0 } }, true])
  blocks.close()
})

test('where a log does not tell, it is told by a code of its own, and nothing is written', async () => {
  const blocks = await opened([deletion('a', 'active', { 7: null })])
  await expect(blocks.update(TENANT, (now) => ({ ...now }))).rejects.toMatchObject({ code: 'manifest-unsettled' })
  expect(blocks.manifest(TENANT)!.manifest.version).toBe(3)
  blocks.close()
})

test('the change that settles makes its own change as well', async () => {
  const blocks = await opened([deletion('a', 'active', { 0: null })])
  const { manifest } = await blocks.update(TENANT, (now) => ({ ...now, flushed: { 0: 7 } }))
  expect([manifest.flushed, manifest.deletes[0]!.isDoubtful]).toEqual([{ 0: 7 }, true])
  blocks.close()
})

test('the format is the oldest that says it: older versions refuse a manifest only while a deletion is under way', () => {
  const { deletes, ...rest } = decodeManifest(bytesOf([]), TENANT)
  const formatOf = (manifest: Manifest) => JSON.parse(Buffer.from(encodeManifest(manifest, 1e6)).toString()).v
  const [entry] = decodeManifest(bytesOf([deletion('a', 'active', {})]), TENANT).deletes
  const states = ['placing', 'active', 'removing', 'removed', 'undone'] as const
  expect(states.map((state) => formatOf({ ...rest, deletes: [{ ...entry!, state }] }))).toEqual([2, 2, 2, 1, 1])
  expect(formatOf({ ...rest, deletes })).toBe(1)
})
