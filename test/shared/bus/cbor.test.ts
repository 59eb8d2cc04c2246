// CBOR from outside: bounds on what decoding takes, and the shape of what is asked.
import path from 'node:path'
import { Encoder } from 'cbor-x'
import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { RefusedError } from '../../../shared/base/errors.ts'
import { decodeCbor, encodeCbor } from '../../../shared/bus/cbor.ts'
import type { Codec } from '../../../shared/bus/contract.ts'
import { list } from '../../../shared/contracts/deletes.ts'
import { filesIn, root } from '../../tidy/sources.ts'

const typed = { hasTypedArrays: true }
const plain = { hasTypedArrays: false, itemsMax: 100 }
const bytes = (hex: string) => Buffer.from(hex.replaceAll(' ', ''), 'hex')

describe('what is decoded', () => {
  test.each<[string, unknown]>([
    ['a text', 'ä'],
    ['numbers', [0, 23, 24, 255, 256, 65_536, 2 ** 40, -1, -500, 1.5, Number.NaN]],
    ['nothing', [null, undefined, true, false]],
    ['empty lists and maps', [[], {}, [[], {}], { a: {}, b: [] }]],
    ['maps in lists in maps', { a: [{ b: [{ c: 1 }] }], d: 'e' }],
    [
      'typed arrays',
      { a: Float64Array.of(1.5, -0), b: new Uint8Array(300), c: Uint32Array.of(7), d: Uint16Array.of(9) },
    ],
  ])('%s', (_, value) => {
    expect(decodeCbor(Uint8Array.from(encodeCbor(value)), typed)).toEqual(value)
  })

  test('lists, maps and texts of no known length', () => {
    const value = { a: [1, { b: 'cd' }], e: 'f' }
    expect(decodeCbor(bytes('bf 6161 9f 01 bf 6162 626364 ff ff 6165 6166 ff'), plain)).toEqual(value)
  })
})

describe('what is refused', () => {
  const bignum = (size: number) => {
    const head = Buffer.from([0xc2, 0x5a, 0, 0, 0, 0])
    head.writeUInt32BE(size, 2)
    return Buffer.concat([head, Buffer.alloc(size, 255)])
  }
  test.each<[string, Uint8Array]>([
    ['CBOR-1: a bignum', bignum(1_000_000)],
    ['CBOR-1: a bignum in a map', Buffer.concat([bytes('a1 6161'), bignum(1_000_000)])],
    ['CBOR-1: a date', new Encoder().encode(new Date(0))],
    ['CBOR-1: a set', new Encoder().encode(new Set([1]))],
    ['CBOR-1: records', new Encoder({ useRecords: true, structuredClone: true }).encode([{ a: 1 }, { a: 2 }])],
    ['CBOR-1: a tag of a tag', bytes('d8 40 d8 40 41 00')],
    ['CBOR-1: a typed array of no bytes', bytes('d8 40 80')],
    ['CBOR-2: what is nested too deep', Buffer.concat([Buffer.alloc(100, 0x81), Buffer.of(1)])],
    ['CBOR-2: more items than there are bytes', bytes('9a 7fffffff 01')],
    ['CBOR-2: a text longer than the message', bytes('7a 7fffffff 61')],
    ['CBOR-2: a message that ends early', bytes('82 01')],
    ['CBOR-2: bytes behind it', bytes('01 01')],
    ['CBOR-2: a break where nothing ends', bytes('82 01 ff')],
    ['CBOR-2: nothing', bytes('')],
    ['CBOR-2: reserved lengths', bytes('1c')],
  ])('%s', (_, message) => {
    const startedMs = performance.now()
    expect(() => decodeCbor(message, typed)).toThrow(RefusedError)
    expect(performance.now() - startedMs).toBeLessThan(1_000)
  })

  test('CBOR-2: more items than are asked for', () => {
    expect(decodeCbor(encodeCbor(new Array(99).fill(1)), plain)).toHaveLength(99)
    expect(() => decodeCbor(encodeCbor(new Array(101).fill(1)), plain)).toThrow('more than 100 items')
  })

  test('CBOR-1: typed arrays where none are wanted', () => {
    expect(() => decodeCbor(encodeCbor({ a: Float64Array.of(1) }), plain)).toThrow('tag')
  })
})

test('any bytes are decoded or refused, whatever they are', () => {
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 60 }), (message) => {
      try {
        decodeCbor(message, typed)
      } catch (error) {
        expect(error).toBeInstanceOf(RefusedError)
      }
    }),
    { numRuns: 3_000 },
  )
})

test('what JSON can say comes back', () => {
  fc.assert(
    fc.property(fc.jsonValue({ maxDepth: 5 }), (value) => {
      const text = JSON.stringify(value)
      expect(JSON.stringify(decodeCbor(encodeCbor(JSON.parse(text)), typed))).toBe(text)
    }),
  )
})

interface Heard {
  readonly subject: unknown
  readonly name: string
  readonly request?: Codec<unknown>
  readonly value?: Codec<unknown>
}

/** Every contract that there is, with what comes from anybody. */
async function contracts(): Promise<[name: string, heard: Codec<unknown>, isOptional: boolean][]> {
  const found: [string, Codec<unknown>, boolean][] = []
  for (const file of filesIn('shared/contracts').filter((name) => name.endsWith('.ts'))) {
    for (const each of Object.values((await import(path.join(root, file))) as Record<string, unknown>)) {
      if (typeof each !== 'object' || each === null || !('subject' in each)) continue
      const { name, request, value } = each as Heard
      found.push([name, (request ?? value)!, MAY_SAY_NOTHING.has(name)])
    }
  }
  return found
}

/** All that these are asked with may be left out; the last two are refused by the querier. */
const MAY_SAY_NOTHING: ReadonlySet<string> = new Set([
  ...['metrics', 'status', 'readiness', 'identity', 'ring'],
  ...['activeQueries', 'compactionStatus', 'compactNow', 'electionNews', 'scrubStatus', 'scrubNow'],
  ...['query', 'remoteRead'],
])

describe('what is asked has its shape', async () => {
  const all = await contracts()
  const message = (value: unknown) => Buffer.concat([Buffer.of(1), encodeCbor(value)])
  const isRefused = expect.objectContaining({ code: 'err-carillon-bad-message' })
  const isPush = (name: string) => name === 'push' || name === 'pushTo' // bytes of their own

  test.each(all.filter(([name]) => !isPush(name)))('%s refuses null, lists and texts', (_, heard) => {
    for (const value of [null, undefined, [], 'a', 7]) expect(() => heard.decode(message(value))).toThrow(isRefused)
    for (const json of ['null', '[]', '"a"', '7']) expect(() => heard.decode(Buffer.from(json))).toThrow(isRefused)
  })

  test.each(all.filter(([name, , isOptional]) => !isOptional && !isPush(name)))(
    '%s refuses what lacks its fields',
    (_, heard) => {
      expect(() => heard.decode(message({}))).toThrow(isRefused)
    },
  )

  test.each(['', '..', '>', 'a\nb', 'x'.repeat(200)])('a tenant that HTTP refuses is refused: %j', (tenant) => {
    expect(() => list.request.decode(message({ tenant }))).toThrow('tenant')
    expect(list.request.decode(message({ tenant: 'acme' }))).toEqual({ tenant: 'acme' })
  })
})
