import { expect, test } from 'vitest'
import { isBefore, isOlder, laterOf, type Place } from '../../../shared/model/place.ts'

const at = (segment: number, seq: number, since?: number, incarnation = 'a'): Place => {
  return { incarnation, segment, seq, ...(since !== undefined && { since }) }
}

test('in one life sequences tell, also where a mark was lost and the segment is told as the one before', () => {
  expect(isBefore(at(3, 289), at(3, 290))).toBe(true)
  expect(isBefore(at(3, 290), at(3, 290))).toBe(false)
  expect(isBefore(at(3, 291), at(4, 290))).toBe(false)
  expect(isBefore(at(3, 289), at(4, 290))).toBe(true)
})

test('what was written behind the loss of an end does not lie before what stood there, though at a lower sequence', () => {
  expect(isBefore(at(4, 245), at(3, 290))).toBe(false)
  expect(isBefore(at(4, 245), at(3, 290, 3))).toBe(false)
})

test('what was written before the loss of an end lies before what is behind it, though at a higher sequence', () => {
  expect(isBefore(at(3, 290), at(4, 245, 4))).toBe(true)
  expect(isBefore(at(3, 290), at(6, 245, 4))).toBe(true)
  expect(isBefore(at(4, 290), at(6, 245, 4))).toBe(false)
})

test('over lives segments tell, and nothing else', () => {
  expect(isBefore(at(3, 290, 3, 'b'), at(4, 1))).toBe(true)
  expect(isBefore(at(4, 1, undefined, 'b'), at(4, 290, 4))).toBe(false)
})

test('of two positions the later one is in the higher segment, whatever their sequences', () => {
  expect(laterOf(at(4, 245), at(3, 290))).toEqual(at(4, 245))
  expect(laterOf(at(3, 290), at(4, 245))).toEqual(at(4, 245))
  expect(laterOf(at(3, 290), at(3, 291))).toEqual(at(3, 291))
  expect(laterOf(at(3, 290), undefined)).toEqual(at(3, 290))
  expect(isOlder(at(3, 290), at(4, 245))).toBe(true)
})
