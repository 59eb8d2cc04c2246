import { expect, test } from 'vitest'
import { assert } from '../../../shared/base/assert.ts'
import { UnavailableError } from '../../../shared/base/errors.ts'
import { Lanes } from '../../../shared/base/lanes.ts'

function lanesAt(): { lanes: Lanes; failures: string[]; pass: (ms: number) => void } {
  let nowMs = 0
  const failures: string[] = []
  const clock = {
    now: () => nowMs,
    monotonic: () => nowMs,
    uptime: () => nowMs,
    after: () => ({ cancel() {} }),
    turn: setImmediate,
  }
  const lanes = new Lanes({ clock, onFailure: (lane, { code }) => failures.push(`${lane} ${code}`) })
  const pass = (ms: number) => {
    nowMs += ms
  }
  return { lanes, failures, pass }
}
const failing = async () => {
  throw new UnavailableError('objects-unavailable', 'it is away')
}

test('LANE-1: a lane that hangs is not begun again, and holds up no other', async () => {
  const { lanes } = lanesAt()
  const gate = Promise.withResolvers<void>()
  const done: string[] = []
  void lanes.begin('a', () => gate.promise)
  void lanes.begin('a', async () => void done.push('a again'))
  await lanes.begin('b', async () => void done.push('b'))
  expect(done).toEqual(['b'])
  gate.resolve()
  await lanes.idle()
  await lanes.begin('a', async () => void done.push('a after'))
  expect(done).toEqual(['b', 'a after'])
})

test('LANE-2: a lane that fails rests, longer each time, and at once no more when it has succeeded', async () => {
  const { lanes, failures, pass } = lanesAt()
  const triesMs: number[] = []
  for (let ms = 0; ms < 30_000; ms += 100) {
    await lanes.begin('a', () => {
      triesMs.push(ms)
      return failing()
    })
    pass(100)
  }
  expect(triesMs).toEqual([0, 500, 1_500, 3_500, 7_500, 12_500, 17_500, 22_500, 27_500])
  expect(failures).toHaveLength(triesMs.length)
  expect([lanes.isFailing('a'), lanes.isFailing('b')]).toEqual([true, false])
  pass(5_000)
  await lanes.begin('a', async () => {})
  expect(lanes.isFailing('a')).toBe(false)
})

test('LANE-3: a bug in one lane is thrown to whoever comes next', async () => {
  const { lanes } = lanesAt()
  await lanes.begin('a', async () => assert(false, 'a bug'))
  expect(() => lanes.begin('b', async () => {})).toThrow('a bug')
  await lanes.begin('a', async () => assert(false, 'another bug'))
  await expect(lanes.idle()).rejects.toThrow('another bug')
})
