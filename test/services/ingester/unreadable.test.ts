// Records of the bucket `log` that cannot be read: a leader opens segments all the same, an owner that starts comes up.
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import type { KvBucket } from '../../../shared/bus/port.ts'
import { keyFor } from '../../../shared/bus/record.ts'
import {
  checkpointRecord,
  decodeMark,
  highWaterRecord,
  LOG_BUCKET,
  markRecord,
  markSubject,
} from '../../../shared/contracts/log.ts'
import { FlushGround } from './flush-ground.ts'

const HOUR_MS = 3_600_000
const MARK = keyFor(markRecord, { partition: 0 })

let ground: FlushGround
let bucket: KvBucket
beforeEach(async () => {
  ground = new FlushGround()
  await ground.open()
  bucket = await ground.soon(ground.hub.connect('hand').bucket(LOG_BUCKET))
})
afterEach(() => ground.close())

const put = (key: string, text: string) => ground.soon(bucket.put(key, Buffer.from(text)))
const standing = async (key: string) => Buffer.from((await ground.soon(bucket.get(key)))!.value!).toString()

/** Numbers of the marks in the log; NaN for what is none. */
function marks(): number[] {
  const log = ground.hub.log('log-0')!
  return Array.from({ length: log.lastSeq }, (_, i) => log.get(i + 1))
    .filter((message) => message?.subject === markSubject(0))
    .map((message) => decodeMark(message!.payload).number)
}

describe('the number of the newest mark', () => {
  test.each([
    ['junk'],
    ['null'],
    ['{}'],
    ['-5'],
    ['1e300'],
    ['2147483646'], // no mark could follow it
    [''],
  ])('"%s": the next mark is numbered by the log, and its number written down', async (text) => {
    await ground.mark(1)
    await put(MARK, text)
    await ground.start('i1')
    await ground.pass(2.5 * HOUR_MS)
    expect(marks(), 'M(1) was flushed and purged').toEqual([2, 3])
    expect(await standing(MARK)).toBe('3')
    expect(ground.owner('i1').damages).toEqual([])
  })

  test('of a newer version it is left alone: no segment is opened', async () => {
    await ground.mark(1)
    await put(MARK, '{"v":2,"number":7}')
    await ground.start('i1')
    await ground.pass(2.5 * HOUR_MS)
    expect(marks()).toEqual([1])
    expect(await standing(MARK)).toBe('{"v":2,"number":7}')
  })

  test('that is read is believed: a log that lost its marks takes no number twice', async () => {
    await put(MARK, '41')
    await ground.start('i1')
    await ground.pass(HOUR_MS / 2)
    expect(marks()).toEqual([42])
  })
})

describe('high-water marks and checkpoints', () => {
  test.each([['junk'], ['null'], ['{}'], ['{"v":2}'], ['']])('"%s": the owner starts and catches up', async (text) => {
    await ground.mark(1)
    await ground.batch([['a', 1_700_000_000_000, 1]])
    await put(keyFor(highWaterRecord, { partition: 0, distributor: 'distributor-1' }), text)
    await put('highwater.0.a.b', text)
    await put(keyFor(checkpointRecord, { partition: 0, ingester: 'i1' }), text)
    await ground.start('i1')
    await ground.until(() => ground.owner('i1').isCaughtUp, 'it has caught up')
    expect(ground.owner('i1').damages).toEqual([])
    await ground.pass(60_000)
    expect(JSON.parse(await standing('checkpoint.0.i1')), 'written anew').toMatchObject({ seq: expect.any(Number) })
  })
})
