// Contracts: subjects are checked, codecs keep bits and refuse junk.
import fc from 'fast-check'
import { describe, expect, expectTypeOf, test } from 'vitest'
import { RefusedError } from '../../../shared/base/errors.ts'
import {
  addressed,
  cbor,
  json,
  type Params,
  paramsIn,
  question,
  raw,
  subjectFilter,
  subjectFor,
  topic,
} from '../../../shared/bus/contract.ts'
import { failureHeaders, failureIn } from '../../../shared/bus/failure.ts'
import { isMatch } from '../../../shared/bus/subject.ts'

const spoken = { servedBy: 'member', askedBy: ['member'] } as const

const push = question({
  ...spoken,
  name: 'push',
  subject: 'push.{tenant}.v1.{kind}',
  request: raw,
  reply: json<number>(),
  timeoutMs: 1_000,
  requestBytesMax: 1_000,
  replyBytesMax: 1_000,
  doc: 'Takes samples.',
})

describe('subjects', () => {
  test('are made from parameters and give them back', () => {
    const params = { tenant: 'acme', kind: 'remote-write' }
    expect(subjectFor(push, params)).toBe('push.acme.v1.remote-write')
    expect(paramsIn(push, 'push.acme.v1.remote-write')).toEqual(params)
    expect(subjectFilter(push, { kind: 'otlp' })).toBe('push.*.v1.otlp')
    expectTypeOf<Parameters<typeof subjectFor<'tenant' | 'kind'>>[1]>().toEqualTypeOf<Params<'tenant' | 'kind'>>()
  })

  test('any parameter makes a legal subject that its filter matches, or is refused', () => {
    fc.assert(
      fc.property(fc.string({ unit: 'binary' }), (tenant) => {
        let subject: string
        try {
          subject = subjectFor(push, { tenant, kind: 'x' })
        } catch (error) {
          expect(error).toBeInstanceOf(RefusedError)
          return
        }
        expect(subject).not.toMatch(/[\s*>]/)
        expect(subject.split('.').length).toBe(4)
        expect(isMatch(subjectFilter(push, {}), subject)).toBe(true)
        expect(paramsIn(push, subject).tenant).toBe(tenant)
      }),
    )
    expect(() => subjectFor(push, { tenant: 'x'.repeat(2_000), kind: 'x' })).toThrow(RefusedError)
    expect(() => subjectFor(push, { tenant: 'x' } as never)).toThrow(RefusedError)
  })

  test.each(['', 'a..b', 'a.{b', 'a.b c', 'a.*', 'a.>', 'a.x{b}'])('the template "%s" is a bug', (subject) => {
    const spec = { ...spoken, name: 'x', value: json<number>(), bytesMax: 10, doc: 'x' }
    expect(() => topic({ ...spec, subject })).toThrow()
  })

  test('an addressed contract names its instance', () => {
    const sizes = { timeoutMs: 1, requestBytesMax: 1, replyBytesMax: 1 }
    const spec = { ...spoken, ...sizes, name: 'x', request: raw, reply: raw, doc: 'x' }
    expect(() => addressed({ ...spec, subject: 'select' })).toThrow('names no instance')
  })

  test.each([
    ['a.*.c', 'a.b.c', true],
    ['a.*', 'a.b.c', false],
    ['a.>', 'a.b.c', true],
    ['a.>', 'a', false],
    ['>', 'a.b', true],
    ['a.b', 'a.b', true],
    ['a.b', 'a', false],
  ])('%s matches %s: %s', (filter, subject, isMatching) => {
    expect(isMatch(filter, subject)).toBe(isMatching)
  })
})

describe('codecs', () => {
  const values = cbor<{ values: Float64Array; name: string }>()

  test('cbor keeps the bits of typed arrays, the stale marker among them', () => {
    const words = new BigUint64Array([0x7ff0000000000002n, 0x8000000000000000n, 0x7ff8000000000001n])
    const back = values.decode(values.encode({ values: new Float64Array(words.buffer), name: 'é' }))
    expect(back.name).toBe('é')
    expect([...new BigUint64Array(back.values.buffer, back.values.byteOffset, 3)]).toEqual([...words])
  })

  test('cbor begins with its version: golden bytes', () => {
    const bytes = cbor<unknown>().encode({ a: [1, 'x', null, true] })
    expect(Buffer.from(bytes).toString('hex')).toBe('01a161618401617 8f6f5'.replace(' ', ''))
  })

  test.each([
    ['cbor', cbor<unknown>()],
    ['json', json<unknown>()],
  ])('%s answers any bytes with a value or a refusal', (_name, codec) => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 200 }), fc.boolean(), (bytes, hasVersion) => {
        const junk = hasVersion ? Uint8Array.from([1, ...bytes]) : bytes
        try {
          codec.decode(junk)
        } catch (error) {
          expect(error).toBeInstanceOf(RefusedError)
          expect(error).toMatchObject({ code: 'err-carillon-bad-message' })
        }
      }),
      { numRuns: 2_000 },
    )
  })

  test('values survive cbor and json', () => {
    fc.assert(
      fc.property(fc.jsonValue({ noNullPrototype: true } as never), (value) => {
        const plain = JSON.parse(JSON.stringify(value).replaceAll('"__proto__"', '"proto"')) // the decoder renames that key for safety
        expect(json<unknown>().decode(json<unknown>().encode(plain))).toEqual(plain)
        expect(cbor<unknown>().decode(cbor<unknown>().encode(plain))).toEqual(plain)
      }),
    )
  })
})

test('any text of an error survives the headers', () => {
  fc.assert(
    fc.property(fc.string({ unit: 'grapheme', maxLength: 100 }), (message) => {
      const headers = failureHeaders(new RefusedError('err-carillon-bad-request', message))
      for (const value of Object.values(headers)) expect(value).toMatch(/^[!-~]?([ -~]*[!-~])?$/)
      expect(failureIn(headers)?.message).toBe(message)
    }),
  )
})
