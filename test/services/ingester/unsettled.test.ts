// After an upgrade, where deletions of one tenant's manifest stand cannot be found out: all others are flushed as ever.
import { afterEach, beforeEach, expect, test } from 'vitest'
import { UnavailableError } from '../../../shared/base/errors.ts'
import type { Bus, LogStore } from '../../../shared/bus/port.ts'
import { manifestKey, manifestObject, tenantKey } from '../../../shared/contracts/blocks.ts'
import { deleteSubject } from '../../../shared/contracts/deletes.ts'
import { batchSubject, logName, markSubject } from '../../../shared/contracts/log.ts'
import { addPartitions } from '../../../shared/membership/bootstrap.ts'
import { crc32c } from '../../../shared/wire/crc32c.ts'
import { changed, FlushGround, HOUR_MS } from './flush-ground.ts'
import { LogWriter } from './log-writer.ts'

const T = 1_700_000_000_000 - (1_700_000_000_000 % (2 * HOUR_MS))
const OLD = 'acme'

let ground: FlushGround
let admin: Bus

beforeEach(async () => {
  ground = new FlushGround()
  await ground.open()
  admin = ground.hub.connect('second admin')
})
afterEach(() => ground.close())

/** Of the first format, with a deletion of which it is not known where it stands. */
async function oldManifest(positions: object): Promise<void> {
  const selectors = [[{ name: 'a', operator: '=', value: 'b' }]]
  const times = { startMs: 0, endMs: 1, askedAtMs: 5, undoUntilMs: 9e15 }
  const entry = { id: 'd1', kind: 'series', state: 'active', selectors, ...times, askedBy: 'me', positions, blocks: [] }
  const rest = { version: 3, previous: 'x', flushed: {}, blocks: [], retired: [], fence: 2, deletes: [entry] }
  const body = Buffer.from(JSON.stringify({ tenant: OLD, ...rest }))
  const bytes = Buffer.from(`{"v":1,"crc32c":"${crc32c(body).toString(16).padStart(8, '0')}","manifest":${body}}`)
  const { bucket } = ground.blocks
  await ground.soon(bucket.put(tenantKey(OLD), Buffer.from(JSON.stringify({ v: 1, tenant: OLD, version: 3 }))))
  await ground.soon(bucket.put(manifestKey(OLD), bytes))
  await ground.soon(ground.objects.create(manifestObject(OLD, 3), Uint8Array.from(bytes), { timeoutMs: 1_000 }))
}

test('by a mark that nobody can read', async () => {
  await ground.mark(1)
  await ground.append(markSubject(0), Buffer.from('junk'))
  await ground.append(deleteSubject(0, 'd1'), Buffer.from('x'))
  await oldManifest({ 0: null })
  await ground.start('i1')
  for (const tenant of ['good', OLD]) await ground.batch([['a', T, 1]], tenant)
  await ground.mark(2)
  await ground.until(() => ground.blocks.flushed(0) === 1, 'the flush')
  expect(ground.manifest('good')?.flushed).toEqual({ 0: 1 })
  expect(ground.manifest(OLD)).toMatchObject({ flushed: { 0: 1 }, deletes: [{ positions: { 0: { segment: 1 } } }] })
})

test('by the log of another partition that does not answer: what is aside comes in when it does', async () => {
  await ground.soon(addPartitions(admin, 1))
  const writer = new LogWriter()
  const write = (subject: string, bytes: Uint8Array) =>
    ground.soon(admin.logs.append(logName(1), subject, bytes, { timeoutMs: 1_000 }))
  await write(markSubject(1), writer.mark(1))
  await write(batchSubject(1), writer.batch([['x', T, 1]]).seal())
  await ground.mark(1)
  await oldManifest({ 0: null, 1: null })
  let isAway = true
  const reached = (log: string): void => {
    if (isAway && log === logName(1)) throw new UnavailableError('log-unavailable', 'no leader')
  }
  const view = (bus: Bus) =>
    changed(bus, {
      state: async (log) => {
        reached(log)
        return bus.logs.state(log)
      },
      lastPerSubject: async (log, ...rest: Rest) => {
        reached(log)
        return bus.logs.lastPerSubject(log, ...rest)
      },
    })
  await ground.start('i1', { view })
  for (const tenant of ['good', OLD]) await ground.batch([['a', T, 1]], tenant)
  await ground.mark(2)
  await ground.until(() => ground.blocks.flushed(0) === 1, 'the flush')
  expect(ground.manifest('good')?.flushed).toEqual({ 0: 1 })
  expect(ground.manifest(OLD)).toMatchObject({ version: 3, isUnsettled: true })
  isAway = false
  await ground.pass(11 * 60_000)
  expect(ground.manifest(OLD)).toMatchObject({ blocks: [{ sampleCount: 1 }], deletes: [{ isDoubtful: true }] })
})

type Rest = Parameters<LogStore['lastPerSubject']> extends [string, ...infer R] ? R : never
