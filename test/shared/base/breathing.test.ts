import { describe, expect, test } from 'vitest'
import { type Breath, Breathing, forEach, inPieces, UNHURRIED } from '../../../shared/base/breathing.ts'
import { systemClock } from '../../../shared/base/clock.ts'
import { sortLong, sortLongFloats } from '../../../shared/base/long-sort.ts'
import { seededRandom } from '../../../shared/base/random.ts'

const NEVER = new AbortController().signal

/** A clock that goes on only where something works, so that a busy machine changes nothing. */
function workshop() {
  let nowMs = 0
  const breathing = new Breathing({ ...systemClock, monotonic: () => nowMs })
  const work = (ms: number) => {
    nowMs += ms
  }
  /** Works in small steps until `untilMs`; how long it did. */
  const workOn = async (breath: Breath, untilMs: number): Promise<number> => {
    let hadMs = 0
    for (; nowMs < untilMs; hadMs += 0.5) {
      work(0.5)
      if (breath.isDue(10_000)) await breath.breathe()
    }
    return hadMs
  }
  return { breathing, work, workOn, nowMs: () => nowMs }
}

describe('breathing', () => {
  test('BREATH-1: many at work keep the event loop no longer than a slice, all together', async () => {
    const { breathing, workOn, nowMs } = workshop()
    let isOver = false
    let longestMs = 0
    let beforeMs = 0
    const onTurn = () => {
      longestMs = Math.max(longestMs, nowMs() - beforeMs)
      beforeMs = nowMs()
      if (!isOver) setImmediate(onTurn)
    }
    setImmediate(onTurn)
    await Promise.all(Array.from({ length: 20 }, (_, i) => workOn(breathing.open(`tenant ${i % 3}`, NEVER), 1_000)))
    isOver = true
    // A slice, and what each of those that come at the same moment does before its first look.
    expect(longestMs).toBeLessThan(5 + 20 * 0.5 + 1)
  })

  test('BREATH-2: owners have equal shares, however many pieces of work each has', async () => {
    const { breathing, workOn } = workshop()
    const one = workOn(breathing.open('one', NEVER), 1_000)
    const many = Array.from({ length: 9 }, () => workOn(breathing.open('many', NEVER), 1_000))
    const [ofOne, ...ofMany] = await Promise.all([one, ...many])
    expect(ofOne).toBeGreaterThan(450)
    expect(ofOne).toBeLessThan(550)
    expect(Math.min(...ofMany)).toBeGreaterThan(40)
    expect(Math.max(...ofMany)).toBeLessThan(80)
  })

  test.each(['of one owner', 'of many'])(
    'BREATH-2: who comes new passes those that are at work long since, %s',
    async (whose) => {
      const { breathing, work, workOn, nowMs } = workshop()
      const nameOf = (i: number) => (whose === 'of many' ? `long ${i}` : 'long')
      const long = Array.from({ length: 10 }, (_, i) => workOn(breathing.open(nameOf(i), NEVER), 2_000))
      while (nowMs() < 600) await new Promise((resolve) => setImmediate(resolve))
      for (const name of ['new', nameOf(0)]) {
        const breath = breathing.open(name, NEVER)
        const startedMs = nowMs()
        for (let slices = 0; slices < 4; slices++) {
          work(6)
          await breath.breathe()
        }
        breath.close()
        expect(nowMs() - startedMs).toBeLessThan(whose === 'of many' && name !== 'new' ? 400 : 60) // its own four slices, and few of others
      }
      await Promise.all(long)
    },
  )

  test('BREATH-2: who comes new has a little more than the others, and no more', async () => {
    const { breathing, workOn, nowMs } = workshop()
    const long = Array.from({ length: 4 }, (_, i) => workOn(breathing.open(`long ${i}`, NEVER), 2_000))
    while (nowMs() < 1_000) await new Promise((resolve) => setImmediate(resolve))
    const hadMs = await workOn(breathing.open('new', NEVER), 2_000)
    expect(hadMs).toBeGreaterThan(200)
    expect(hadMs).toBeLessThan(200 + 50 + 20)
    await Promise.all(long)
  })

  test('BREATH-3: work that is ended does not wait for its turn', async () => {
    const { breathing, work, workOn, nowMs } = workshop()
    const other = workOn(breathing.open('other', NEVER), 200)
    const ended = new AbortController()
    const breath = breathing.open('one', ended.signal)
    work(10)
    breath.isDue(10_000)
    work(10)
    const waiting = breath.breathe()
    const before = nowMs()
    ended.abort(new Error('enough'))
    await expect(waiting).rejects.toThrow('enough')
    expect(nowMs()).toBe(before) // nobody else had a slice meanwhile
    await expect(breath.breathe()).rejects.toThrow('enough')
    await other
    expect(breathing.waitingCount).toBe(0)
  })
})

test('what is short is done at once, what is long in pieces, in order and whole', async () => {
  const seen: number[] = []
  const take = (from: number, to: number) => {
    for (let i = from; i < to; i++) seen.push(i)
  }
  expect(inPieces(100, 1, UNHURRIED, take)).toBeUndefined()
  const long = inPieces(100, 10_000, UNHURRIED, take)
  expect(long).toBeInstanceOf(Promise)
  await long
  await forEach([200, 201], 1, UNHURRIED, (item) => seen.push(item))
  expect(seen).toEqual([...Array.from({ length: 200 }, (_, i) => i % 100), 200, 201])
})

test('long lists are sorted as the engine sorts short ones', async () => {
  const random = seededRandom(3)
  for (const length of [0, 1, 2_048, 2_049, 10_000]) {
    const list = Array.from({ length }, (_, at) => ({ key: Math.floor(random.next() * 50), at }))
    const sorted = await sortLong([...list], (a, b) => a.key - b.key, UNHURRIED)
    expect(sorted).toEqual([...list].sort((a, b) => a.key - b.key)) // stable: `at` rises within a key
  }
  for (const length of [0, 5, 16_384, 16_385, 100_000]) {
    const values = Float64Array.from(
      { length },
      () => [0, -0, Infinity, -Infinity][Math.floor(random.next() * 40)] ?? random.next() - 0.5,
    )
    const sorted = await sortLongFloats(values.slice(), UNHURRIED)
    expect(
      Buffer.from(sorted.buffer, sorted.byteOffset, sorted.byteLength).equals(
        Buffer.from(values.slice().sort().buffer),
      ),
    ).toBe(true)
  }
})
