// LOG-10: damage is settled in the end, whoever lives, dies or comes meanwhile; and it is never called missing while an owner that could fill it is
// merely slow.
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { stampOf } from '../../../services/ingester/read/answers.ts'
import { sleep } from '../../../shared/base/clock.ts'
import { UnavailableError } from '../../../shared/base/errors.ts'
import type { Bus, LogConsumer, LogMessage } from '../../../shared/bus/port.ts'
import { keyFor } from '../../../shared/bus/record.ts'
import { checkpointRecord, LOG_BUCKET, logName } from '../../../shared/contracts/log.ts'
import { withBuckets } from '../../altered-bus.ts'
import { changed, FlushGround, HOUR_MS } from './flush-ground.ts'
import { TENANT } from './log-writer.ts'

const START_MS = 1_700_000_000_000 - (1_700_000_000_000 % (2 * HOUR_MS))
const LOST = 2
let ground: FlushGround

beforeEach(async () => {
  ground = new FlushGround()
  await ground.open()
  await ground.mark(1)
})
afterEach(() => ground.close())

const write = (seconds: number) => ground.batch([['a', START_MS + seconds * 1000, 1]])

/** The message that is lost, then others of its segment, then segments up to 5. */
async function writeAll({ isAlone = false } = {}): Promise<void> {
  expect(await write(1)).toBe(LOST)
  if (!isAlone) await write(2)
  for (const number of [2, 3, 4, 5]) {
    await ground.mark(number)
    await write(10 * number)
  }
}

const lost = { hides: [LOST] }
const statesOf = (id: string) => ground.owner(id).damages.map(({ kind, state }) => `${kind} ${state}`)
const GAP = expect.stringMatching(/^partition 0: gap at 2 in segment 1: .*\(missing\)$/)
const warningsFor = (tenant: string, startMs = START_MS, id = 'i1') =>
  stampOf(ground.owner(id), { tenant, startMs }).warnings
const settled = () => ground.until(() => ground.blocks.flushed(0) === 4, 'segment 4 is flushed')
const gaps = () => ground.manifest(TENANT)!.blocks.flatMap((block) => block.gaps ?? [])

describe('what nobody has is missing, is told, and the log is flushed and purged', () => {
  test.each([
    ['one owner', ['i1']],
    ['two owners', ['i1', 'i2']],
    ['two owners and an ingester that does not own the partition', ['i1', 'i2', 'i3']],
  ])('%s', async (_, ids) => {
    for (const id of ids) await ground.start(id, lost)
    await ground.until(() => ground.owners().length === Math.min(2, ids.length), 'one of three has given it away')
    await writeAll()
    await settled()
    await ground.until(() => ground.firstSeq() > LOST, 'the purge')
    expect(gaps()).toEqual([expect.stringMatching(/^gap at 2 in segment 1: .*\(missing\)$/)])
  })

  test('also where it was all that its segment held', async () => {
    await ground.start('i1', lost)
    await ground.start('i2', lost)
    await writeAll({ isAlone: true })
    await settled()
    await ground.until(() => ground.owner('i1').state.droppedUpTo >= 1, 'the drop')
    expect(warningsFor(TENANT)).toEqual([GAP])
  })

  test('also to a tenant that lost all it had of the segment, by owners that never saw it, where it may lie', async () => {
    await ground.start('i1', lost)
    await ground.start('i2', lost)
    expect(await ground.batch([['a', START_MS, 1]], 'gone')).toBe(LOST)
    await write(2)
    for (const number of [2, 3, 4, 5]) {
      await ground.mark(number)
      await write(10 * number)
    }
    await settled()
    await ground.until(() => ground.owner('i1').state.droppedUpTo >= 1, 'the drop')
    expect([statesOf('i1'), warningsFor('gone')]).toEqual([[], [GAP]])
    for (const id of ['i1', 'i2']) ground.kill(id)
    await ground.start('i3')
    await ground.until(() => ground.owners().some((owner) => owner.isCaughtUp), 'another owner')
    expect(warningsFor('gone', ground.clock.now(), 'i3')).toEqual([GAP])
    expect(warningsFor('gone', ground.clock.now() + 25 * HOUR_MS, 'i3'), 'whoever asks only for later times').toEqual(
      [],
    )
  })

  test('also when the leader dies before anybody has freed the segment', async () => {
    await ground.start('i1', { ...lost, diesAt: { step: 'purged', times: 1 } })
    await ground.batch([['a', START_MS, 1]], 'gone')
    await write(2)
    for (const number of [2, 3, 4, 5]) {
      await ground.mark(number)
      await write(10 * number)
    }
    await ground.until(() => ground.dead.has('i1'), 'the death')
    expect(ground.firstSeq()).toBeGreaterThan(LOST)
    await ground.start('i3')
    await ground.until(() => ground.owners().some((owner) => owner.isCaughtUp), 'another owner')
    expect(warningsFor('gone', START_MS, 'i3')).toEqual([GAP])
  })

  test('an owner forgets it only when the record names it', async () => {
    const deaf = (bus: Bus) =>
      withBuckets(bus, (bucket) => ({
        watch: (filter, onEntry, ...rest) =>
          bucket.watch(filter, (entry) => (entry.key === 'gaps.0' ? undefined : onEntry(entry)), ...rest),
      }))
    await ground.start('i1', { ...lost, view: deaf })
    await writeAll()
    await settled()
    await ground.until(() => ground.owner('i1').state.droppedUpTo >= 1, 'the drop')
    expect(statesOf('i1')).toEqual(['gap missing'])
  })

  test('of more damage than a record takes the oldest is told as one', async () => {
    const hides = Array.from({ length: 70 }, (_, i) => 2 + 3 * i)
    await ground.start('i1', { hides })
    for (let number = 2; number <= 71; number++) {
      expect(hides).toContain(await ground.batch([['a', START_MS, 1]], 'gone'))
      await write(number)
      await ground.mark(number)
      await ground.pass(500)
    }
    await ground.until(() => ground.blocks.flushed(0) === 70, 'the flush')
    await ground.until(() => statesOf('i1').length === 0, 'the drop')
    const told = ground.owner('i1').lostFrom(START_MS)
    expect([told.length, told[0]]).toEqual([64, 'damage of segments up to 7 that nobody could fill'])
  })

  test('also when it lay behind the end of the log, which is not written to any more', async () => {
    await ground.start('i1')
    await ground.start('i2')
    await write(1)
    await ground.pass(5_000)
    for (const id of ['i1', 'i2'])
      ground.owner(id).report('rewind', { fromSeq: 3, toSeq: 1_000 }, 'the log ends at 2, a writer had stored 1000')
    await ground.until(() => ['i1', 'i2'].every((id) => statesOf(id)[0] === 'rewind missing'), 'an end of the waiting')
  })
})

describe('FILL-7: what a log has lost with its end', () => {
  const rememberedBy = (ingester: string, seq: number) => {
    const { incarnation } = ground.hub.log(logName(0))!
    const place = keyFor(checkpointRecord, { partition: 0, ingester })
    ground.hub.bucket(LOG_BUCKET)!.write(place, checkpointRecord.format.encode({ seq, crc: 7, incarnation }))
  }

  test('is missing where all others began behind the loss', async () => {
    await write(1)
    await write(2)
    rememberedBy('i1', 3)
    await ground.start('i2')
    await ground.start('i1')
    await ground.until(() => ['rewind missing', 'rewind filled'].includes(statesOf('i1')[0]!), 'an end of the waiting')
    expect(statesOf('i1')).toEqual(['rewind missing'])
    const told = () => warningsFor(TENANT, START_MS, 'i2')
    await ground.until(() => told().length > 0, 'the others tell it as well')
    expect(told()).toEqual([
      expect.stringMatching(/another message than the one applied before \(missing\)$|this owner had applied/),
    ])
  })

  test('is filled by one that had read it', async () => {
    await ground.start('i2')
    const last = [await write(1), await write(2), await write(3)][2]!
    await ground.until(() => ground.owner('i2').appliedSeq === last, 'all of it is read')
    ground.hub.log(logName(0))!.cutTail(last - 1)
    await ground.until(() => statesOf('i2')[0] === 'rewind filled', 'the loss is noticed')
    await write(4)
    rememberedBy('i1', last)
    await ground.start('i1')
    await ground.until(() => ['rewind missing', 'rewind filled'].includes(statesOf('i1')[0]!), 'an end of the waiting')
    expect(statesOf('i1')).toEqual(['rewind filled'])
  })
})

describe('an owner that could fill it', () => {
  test('is waited for while it replays slowly', async () => {
    let pauseMs = 60_000
    const slowly = (bus: Bus) =>
      changed(bus, {
        consume(log, from, onMessage, onError): LogConsumer {
          const late = async (message: LogMessage) => {
            await sleep(bus.clock, pauseMs)
            await onMessage(message)
          }
          return bus.logs.consume(log, from, late, onError)
        },
      })
    await ground.start('i2', { view: slowly })
    await ground.start('i1', lost)
    await writeAll()
    await ground.pass(90_000)
    expect(ground.owner('i2').appliedSeq).toBeLessThan(LOST)
    expect(statesOf('i1')).toEqual(['gap open'])
    pauseMs = 0
    await settled()
    expect([statesOf('i1').includes('gap missing'), gaps()]).toEqual([false, []])
  })

  test('is waited for while it starts', async () => {
    let isBroken = true
    const broken = (bus: Bus) =>
      changed(bus, {
        state: (log) =>
          isBroken ? Promise.reject(new UnavailableError('bus-timeout', 'no answer')) : bus.logs.state(log),
      })
    await ground.start('i2', { view: broken })
    await ground.start('i1', lost)
    await writeAll()
    await ground.pass(20_000)
    expect(statesOf('i1')).toEqual(['gap open'])
    isBroken = false
    await settled()
    expect(gaps()).toEqual([])
  })

  test('is not waited for when it never begins to follow', async () => {
    const broken = (bus: Bus) =>
      changed(bus, { state: () => Promise.reject(new UnavailableError('bus-timeout', 'no answer')) })
    await ground.start('i2', { view: broken })
    await ground.start('i1', lost)
    await writeAll()
    await settled()
    expect(gaps()).toHaveLength(1)
  })

  test.each(['dies for good', 'stands still'] as const)(
    'is not waited for when it %s; what it brings back is added',
    async (how) => {
      await ground.start('i2')
      await ground.start('i1', lost)
      await ground.pass(5_000)
      if (how === 'stands still') {
        expect(await write(1)).toBe(LOST)
        await ground.pass(200) // too short for the other one to have been filled
        ground.hub.pause('i2')
        await write(2)
        for (const number of [2, 3, 4, 5]) {
          await ground.mark(number)
          await write(10 * number)
        }
      } else {
        ground.kill('i2')
        await writeAll()
      }
      await settled()
      expect(gaps()).toHaveLength(1)
      if (how === 'dies for good') return
      ground.hub.resume('i2')
      const hasSupplement = () =>
        ground.manifest(TENANT)!.blocks.some(({ origin }) => origin.kind === 'flush' && origin.isSupplement)
      await ground.until(hasSupplement, 'a supplement')
    },
  )

  test('is replaced: the new one is asked, and has nothing either', async () => {
    await ground.start('i2', lost)
    await ground.start('i1', lost)
    await ground.pass(5_000)
    ground.kill('i2')
    await writeAll()
    await ground.start('i3', lost)
    await settled()
    expect(statesOf('i1').concat(gaps())).toContainEqual(expect.stringContaining('missing'))
  })
})

test('FILL-4: damage of an owner that is stopped is asked for no more', async () => {
  await ground.start('i1', lost)
  await ground.start('i2', {
    view: (bus) => changed(bus, { state: () => Promise.reject(new UnavailableError('bus-timeout', 'no answer')) }),
  })
  await write(1)
  await write(2)
  await ground.pass(10_000)
  const owner = ground.owner('i1')
  expect(statesOf('i1')).toEqual(['gap open'])
  const before = ground.running.get('i1')!
  await ground.soon(before.actor.stop())
  const heads = owner.state.heads.size
  await ground.pass(60_000)
  expect([owner.isStopped, owner.damages.map(({ state }) => state), owner.state.heads.size]).toEqual([
    true,
    ['open'],
    heads,
  ])
})
