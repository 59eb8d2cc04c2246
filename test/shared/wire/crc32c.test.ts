import { expect, test } from 'vitest'
import { crc32c } from '../../../shared/wire/crc32c.ts'

const ascending = Uint8Array.from({ length: 32 }, (_, i) => i)

// The first five are the vectors of RFC 3720, B.4.
test.each([
  ['32 zeros', new Uint8Array(32), 0x8a9136aa],
  ['32 ones', new Uint8Array(32).fill(255), 0x62a8ab43],
  ['0 to 31', ascending, 0x46dd794e],
  ['31 to 0', ascending.toReversed(), 0x113fdb5c],
  ['nothing', new Uint8Array(0), 0],
  ['digits', Buffer.from('123456789'), 0xe3069283],
])('the checksum of %s', (_, bytes, checksum) => {
  expect(crc32c(bytes)).toBe(checksum)
})

test('a checksum can be made in parts, at any border', () => {
  const bytes = Uint8Array.from({ length: 100 }, (_, i) => (i * 7919) & 255)
  const whole = crc32c(bytes)
  for (let cut = 0; cut <= 100; cut++) expect(crc32c(bytes, cut, 100, crc32c(bytes, 0, cut))).toBe(whole)
})
