// LOG-5 as a table: a log of marks and batches, an epoch, a position, and whether the batch there counts.
import { expect, test } from 'vitest'
import { Acknowledger } from '../../../services/distributor/log/acknowledgement.ts'
import { systemClock } from '../../../shared/base/clock.ts'
import { seededRandom } from '../../../shared/base/random.ts'
import { createMemoryHub } from '../../../shared/bus/memory/memory-bus.ts'
import { encodeSealed } from '../../../shared/contracts/json.ts'
import { batchSubject, encodeMark, logConfig, logName, markSubject } from '../../../shared/contracts/log.ts'

/** `M` is the next mark, `b` a batch: the log of sequences 1, 2, 3, … */
async function ackAt(log: string, at: { epoch: number; seq: number }, staleRead = 0) {
  const hub = createMemoryHub({ clock: systemClock, random: seededRandom(1) })
  const bus = hub.connect('test')
  await bus.logs.ensure(logConfig(0, { bytesMax: 1 << 20, replicas: 1 }))
  let number = 0
  for (const letter of log) {
    const isMark = letter === 'M'
    if (isMark) number++
    const payload = isMark ? encodeMark({ number, writer: 'x', nonce: 'n' }) : new Uint8Array(1)
    await bus.logs.append(logName(0), isMark ? markSubject(0) : batchSubject(0), payload, { timeoutMs: 1000 })
  }
  Object.assign(hub.faults, { staleRead, staleBehindMax: 4 })
  const acknowledger = new Acknowledger({
    ...{ bus, clock: systemClock, partition: 0, readTimeoutMs: 500, isCredulous: false },
    onMark: () => {},
    atLeast: () => 0,
  })
  return acknowledger.confirm(at.epoch, at.seq, systemClock.monotonic() + 500)
}

test.each([
  ['Mb', 1, 2, 'acknowledged'],
  ['MMb', 1, 3, 'acknowledged'], // one mark late: the previous epoch's dictionary is kept
  ['MMMb', 1, 4, 'late'], // behind M(3)
  ['MbMM', 1, 2, 'acknowledged'], // M(3) is known to lie behind it
  ['MMbM', 1, 3, 'acknowledged'],
  ['MbMMM', 1, 2, 'late'], // where M(3) lies is no longer known: written again, which does no harm
  ['MMMMb', 3, 5, 'acknowledged'],
  ['MMMMb', 2, 5, 'late'],
])('LOG-5: in %s a batch of epoch %i at %i is %s', async (log, epoch, seq, wanted) => {
  expect(await ackAt(log, { epoch, seq })).toBe(wanted)
})

test('LOG-5: a read that does not reach the batch proves nothing and is repeated', async () => {
  expect(await ackAt('MMMb', { epoch: 1, seq: 4 }, 0.9)).toBe('late')
  await expect(ackAt('Mb', { epoch: 1, seq: 2 }, 1), 'always behind').rejects.toMatchObject({
    kind: 'unavailable',
    code: 'err-carillon-unconfirmed',
  })
})

test('row 18: under a mark of a newer version nothing is acknowledged, and no session begins', async () => {
  const hub = createMemoryHub({ clock: systemClock, random: seededRandom(1) })
  const bus = hub.connect('test')
  await bus.logs.ensure(logConfig(0, { bytesMax: 1 << 20, replicas: 1 }))
  const newer = encodeSealed({ v: 2, number: 1, writer: 'newer', nonce: 'n' })
  await bus.logs.append(logName(0), markSubject(0), newer, { timeoutMs: 1000 })
  const acknowledger = new Acknowledger({
    ...{ bus, clock: systemClock, partition: 0, readTimeoutMs: 500, isCredulous: false },
    onMark: () => {},
    atLeast: () => 0,
  })
  const refusal = { code: 'err-carillon-mark-unreadable', message: expect.stringContaining('mark of version 2') }
  await expect(acknowledger.read()).rejects.toMatchObject(refusal)
})
