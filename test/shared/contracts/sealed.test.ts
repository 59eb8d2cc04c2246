// LOG-10: marks and fences of deletions carry a checksum of their fields; what was written before they had one is read as ever.
import { expect, test } from 'vitest'
import { type DeleteRecord, decodeDelete, encodeDelete } from '../../../shared/contracts/deletes.ts'
import { encodeSealed } from '../../../shared/contracts/json.ts'
import { decodeMark, encodeMark } from '../../../shared/contracts/log.ts'

const mark = { number: 8, writer: 'ingester-1', nonce: '00112233445566778899aabbccddeeff' }
const deletion: DeleteRecord = {
  ...{ id: 'd1', tenant: 'acme', kind: 'series', startMs: 0, endMs: 100 },
  selectors: [[{ name: '__name__', operator: '=', value: 'up,"crc32c":"00000000"}' }]],
}

const read = <T>(decode: (bytes: Uint8Array) => T, bytes: Uint8Array): T | string => {
  try {
    return decode(bytes)
  } catch (error) {
    return (error as { code: string }).code
  }
}
const bytesOf = (value: object) => Buffer.from(JSON.stringify(value))

test.each([
  ['mark', encodeMark(mark), decodeMark, mark],
  ['fence', encodeDelete(deletion), decodeDelete, deletion],
])('LOG-10: whichever bit flips in a %s, it is unreadable or says what it said', (_, whole, decode, said) => {
  expect(decode(whole)).toMatchObject(said)
  let readableCount = 0
  for (let bit = 0; bit < whole.length * 8; bit++) {
    const flipped = Uint8Array.from(whole)
    flipped[bit >> 3]! ^= 1 << (bit & 7)
    const found = read<object>(decode, flipped)
    if (typeof found === 'string') expect(found, `bit ${bit}`).toMatch(/^err-carillon-bad-(mark|record)$/)
    else expect(found, `bit ${bit}`).toMatchObject(said)
    if (typeof found !== 'string') readableCount++
  }
  expect(readableCount, 'only where the name of the checksum is another').toBeLessThan(48)
})

test('what was written without a checksum is read', () => {
  expect(decodeMark(bytesOf({ v: 1, ...mark }))).toEqual(mark)
  expect(decodeDelete(bytesOf({ v: 1, ...deletion }))).toMatchObject(deletion)
})

test('row 18: a mark is of a newer version where its checksum says so, and of none where nothing does', () => {
  expect(read(decodeMark, encodeSealed({ v: 2, ...mark, more: [1] }))).toBe('newer-version')
  expect(read(decodeMark, bytesOf({ v: 3, ...mark }))).toBe('err-carillon-bad-mark')
  expect(read(decodeMark, bytesOf({ v: 3, ...mark, crc32c: '00000000' }))).toBe('err-carillon-bad-record')
})
