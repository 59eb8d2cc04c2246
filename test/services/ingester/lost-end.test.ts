import { beforeEach, expect, test } from 'vitest'
import { LostEnd } from '../../../services/ingester/log/lost-end.ts'

const mark = (number: number, since?: number) => ({
  ...{ number, writer: 'w', nonce: 'n', seq: 1 },
  ...(since !== undefined && { since }),
})
let lost: LostEnd
beforeEach(() => {
  lost = new LostEnd()
})

test('a log that ends before what was applied has lost its end, until a mark says so that is above all that stood there', () => {
  lost.meet({ lastSeq: 8 }, { seq: 9, crc: 1 }, mark(3))
  expect(lost.upTo).toBe(3)
  for (const each of [mark(4), mark(4, 3)]) lost.hearMark(each)
  expect(lost.upTo).toBe(3)
  lost.hearMark(mark(4, 4))
  expect(lost.upTo).toBeUndefined()
})

test('where another message stands than was applied it has, unless the same is delivered again', () => {
  for (const { seq, crc, upTo } of [
    { seq: 9, crc: 1, upTo: undefined },
    { seq: 9, crc: 2, upTo: 3 },
    { seq: 10, crc: 1, upTo: 3 },
  ]) {
    lost = new LostEnd()
    lost.meet({ lastSeq: 12 }, { seq: 9, crc: 1 }, mark(3))
    lost.hear(8, 7, mark(3))
    expect(lost.upTo).toBeUndefined()
    lost.hear(seq, crc, mark(3))
    lost.hear(11, 7, mark(3))
    expect(lost.upTo).toBe(upTo)
  }
})

test('what was stored under an epoch before the mark that says so shows no loss any more', () => {
  lost.note(mark(5, 4), 3)
  expect(lost.upTo).toBeUndefined()
  lost.note(mark(5, 4), 4)
  expect(lost.upTo).toBe(5)
})
