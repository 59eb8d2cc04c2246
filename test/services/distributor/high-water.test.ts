// High-water marks: what a distributor knows to be stored is evidence, and stays it.
import { beforeEach, expect, it } from 'vitest'
import { HighWaterMarks } from '../../../services/distributor/log/high-water.ts'
import type { PartitionWriter } from '../../../services/distributor/log/partition-writer.ts'
import { systemClock } from '../../../shared/base/clock.ts'
import { seededRandom } from '../../../shared/base/random.ts'
import { createMemoryHub } from '../../../shared/bus/memory/memory-bus.ts'
import type { KvBucket } from '../../../shared/bus/port.ts'
import { keyFor } from '../../../shared/bus/record.ts'
import { type HighWater, highWaterRecord } from '../../../shared/contracts/log.ts'
import { readRecord } from '../../../shared/kv/read-records.ts'
import { silentLog } from '../../../shared/telemetry/log.ts'
import { createMetrics } from '../../../shared/telemetry/metrics.ts'

let bucket: KvBucket
beforeEach(async () => {
  bucket = await createMemoryHub({ clock: systemClock, random: seededRandom(1) })
    .connect('d1')
    .bucket('log')
})

const place = { partition: 0, distributor: 'd1' }
const standing = async () => (await readRecord({ bucket }, highWaterRecord, place)) as { value?: HighWater }

/** A distributor that has come back, and a writer of its that has stored a batch at this sequence. */
function restarted() {
  const rewinds = createMetrics().counter('rewinds', 'Rewinds.')
  let rewindCount = 0
  const counted = { ...rewinds, inc: () => void rewindCount++ } as typeof rewinds
  const marks = new HighWaterMarks({ bucket, id: 'd1', log: silentLog, metrics: createMetrics(), rewinds: counted })
  return { marks, rewinds: () => rewindCount }
}
const writerAt = (lastSeq: number, incarnation = 'life-1', lastCounter = 1) => {
  const newestSession = { idText: 'session', lastCounter, lastSeq, mark: { number: 3 } }
  return { partition: 0, incarnation, newestSession } as unknown as PartitionWriter
}

const stored = (seq: number, incarnation = 'life-1') => {
  const mark = { session: 'before', counter: 9, seq, epoch: 2, incarnation }
  return bucket.put(keyFor(highWaterRecord, place), highWaterRecord.format.encode(mark))
}

it('decision 7: a mark that a rewound log has not reached again is not lowered', async () => {
  await stored(100)
  const { marks, rewinds } = restarted()
  await marks.check(writerAt(0), 60)
  expect(rewinds(), 'the log ends at 60').toBe(1)
  await marks.save(writerAt(70))
  expect(await standing()).toMatchObject({ value: { session: 'before', seq: 100 } })
  await marks.save(writerAt(101, 'life-1', 2))
  expect(await standing()).toMatchObject({ value: { session: 'session', seq: 101 } })
})

it('what was stored in another life of the log says nothing about this one', async () => {
  await stored(100, 'life-0')
  const { marks, rewinds } = restarted()
  await marks.check(writerAt(0), 5)
  await marks.save(writerAt(5))
  expect(rewinds()).toBe(0)
  expect(await standing()).toMatchObject({ value: { seq: 5, incarnation: 'life-1' } })
})

it('a log that holds what was stored is not rewound, and its mark follows', async () => {
  await stored(100)
  const { marks, rewinds } = restarted()
  await marks.check(writerAt(0), 100)
  await marks.save(writerAt(102))
  expect(rewinds()).toBe(0)
  expect(await standing()).toMatchObject({ value: { seq: 102 } })
})
