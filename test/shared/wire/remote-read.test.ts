import { describe, expect, it } from 'vitest'
import { crc32c } from '../../../shared/wire/crc32c.ts'
import { cursor, readTag, readUvarint, skipField } from '../../../shared/wire/protobuf.ts'
import { chunkFrames, decodeReadRequest, timeSeriesPieces } from '../../../shared/wire/remote-read.ts'
import { readRequest } from '../../cluster/read-request.ts'

const matchers = [
  { name: '__name__', operator: '=', value: 'up' },
  { name: 'a', operator: '!~', value: 'x|ü' },
] as const

describe('a request of a remote reader', () => {
  it.each([
    [[], 'samples'],
    [[0], 'samples'],
    [[1, 0], 'chunks'],
    [[9, 1], 'chunks'],
  ])('that takes %j is answered with %s', (shapes, shape) => {
    const queries = [
      { matchers, startMs: 1_700_000_000_000, endMs: 1_700_000_060_000 },
      { matchers: [], startMs: 0, endMs: 1 },
    ]
    expect(decodeReadRequest(readRequest(queries, shapes), { queriesMax: 2, matchersMax: 9 })).toEqual({
      queries,
      shape,
    })
  })

  it('is refused when it is broken, takes nothing that exists, or asks too much', () => {
    const good = readRequest([{ matchers, startMs: 1, endMs: 2 }], [0])
    const refusals: [Uint8Array, number, string][] = [
      [good.subarray(0, -4), 9, 'err-carillon-protobuf'],
      [Uint8Array.of(0x0a, 0xff, 0xff, 0xff, 0xff, 0x0f), 9, 'err-carillon-protobuf'],
      [Uint8Array.of(0x0a, 6, 0x1a, 4, 8, 7, 0x12, 0), 9, 'err-carillon-protobuf'], // a matcher of type 7
      [Uint8Array.of(0x0a, 7, 0x1a, 5, 0x12, 1, 0xff, 0x1a, 0), 9, 'err-carillon-protobuf'], // a name that is not UTF-8
      [readRequest([], [5]), 9, 'err-carillon-read-shape'],
      [good, 0, 'err-carillon-read-queries'],
    ]
    for (const [bytes, queriesMax, code] of refusals)
      expect(() => decodeReadRequest(bytes, { queriesMax, matchersMax: 9 })).toThrow(
        expect.objectContaining({ code, status: 400 }),
      )
  })

  it('has no more matchers than are taken, over all queries', () => {
    const queries = [matchers, matchers].map((each) => ({ matchers: each, startMs: 1, endMs: 2 }))
    const bytes = readRequest(queries, [0])
    const count = 2 * matchers.length
    expect(decodeReadRequest(bytes, { queriesMax: 9, matchersMax: count }).queries).toHaveLength(2)
    expect(() => decodeReadRequest(bytes, { queriesMax: 9, matchersMax: count - 1 })).toThrow('too many matchers')
  })

  it('any bytes are read or refused, and nothing else happens', () => {
    const good = readRequest(
      [{ matchers, startMs: -5, endMs: 2 ** 45 }].map((q) => ({ ...q, startMs: 5 })),
      [1, 0],
    )
    for (let at = 0; at < good.length; at++) {
      for (const byte of [0, 1, 0x7f, 0x80, 0xff]) {
        const bytes = Uint8Array.from(good)
        bytes[at] = byte
        try {
          decodeReadRequest(bytes, { queriesMax: 10, matchersMax: 9 })
        } catch (error) {
          expect(error).toMatchObject({ status: 400 })
        }
      }
    }
  })
})

describe('frames of chunks', () => {
  const labels = ['__name__', 'up', 'job', 'j'.repeat(300)]
  const chunks = Array.from({ length: 40 }, (_, i) => ({
    encoding: 1 + (i % 3),
    bytes: new Uint8Array(100 + i).fill(i),
    minTime: i * 1000,
    maxTime: i * 1000 + 999,
  }))

  it.each([1, 500, 2_000, 1_000_000])(
    'of %d bytes hold every chunk once, in order, each with the labels',
    (bytesMax) => {
      const frames = [...chunkFrames({ labels, chunks }, { queryIndex: 3, bytesMax })]
      const sizes = frames.map((frame) => {
        const length = readUvarint(frame, 0, frame.length)
        const message = frame.subarray(cursor.at + 4)
        expect(message.length).toBe(length)
        expect(Buffer.from(frame).readUInt32BE(cursor.at)).toBe(crc32c(message))
        expect(Buffer.from(message.subarray(-2))).toEqual(Buffer.of(0x10, 3)) // query_index 3
        expect(Buffer.from(message).includes('j'.repeat(300))).toBe(true)
        return fieldsOf(message, [1, 2]).map((chunk) => chunk.length)
      })
      expect(frames.length).toBe(bytesMax === 1 ? 40 : bytesMax === 1_000_000 ? 1 : sizes.length)
      expect(sizes.flat().length).toBe(40)
      expect(sizes.flat()[39]! - sizes.flat()[0]!).toBeGreaterThan(39)
    },
  )

  it('samples before 1970 are written as protobuf has it', () => {
    const series = { labels: ['a', 'b'], times: Float64Array.of(-1), values: Float64Array.of(1) }
    const [sample] = fieldsOf(Buffer.concat([...timeSeriesPieces(series)]), [2])
    expect(Buffer.from(sample!).toString('hex')).toBe(`09000000000000f03f10${'ff'.repeat(9)}01`)
  })
})

/** What stands at a path of length-delimited fields. */
function fieldsOf(message: Uint8Array, path: readonly number[]): Uint8Array[] {
  const [wanted, ...rest] = path
  const found: Uint8Array[] = []
  for (let at = 0; at < message.length; ) {
    const tag = readTag(message, at, message.length)
    const valueAt = cursor.at
    at = skipField(tag, message, valueAt, message.length)
    if (tag !== wanted! * 8 + 2) continue
    readUvarint(message, valueAt, message.length)
    const value = message.subarray(cursor.at, at)
    found.push(...(rest.length === 0 ? [value] : fieldsOf(value, rest)))
  }
  return found
}
