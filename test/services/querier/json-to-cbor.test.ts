// Answers as CBOR say what they say as JSON.
import { Decoder } from 'cbor-x'
import fc from 'fast-check'
import { expect, test } from 'vitest'
import { cborOfJson } from '../../../services/querier/api/json-to-cbor.ts'
import { UNHURRIED } from '../../../shared/base/breathing.ts'

/** Maps stay maps: made into objects, the decoder calls `__proto__` by another name. */
const decoder = new Decoder({ mapsAsObjects: false })

async function turned(json: string): Promise<unknown> {
  return plain(decoder.decode(Buffer.concat(await cborOfJson(Buffer.from(json), UNHURRIED))))
}

function plain(value: unknown): unknown {
  if (value instanceof Map) return Object.fromEntries([...value].map(([key, item]) => [key, plain(item)]))
  return Array.isArray(value) ? value.map(plain) : value
}

test.each([
  '{"status":"success","data":{"resultType":"vector","result":[]}}',
  '{"__proto__":[1],"constructor":{"__proto__":"x"}}',
  '[[],{},[{}],{"a":[]}]',
  '["", "ä€😀", "a\\"b\\\\", "\\\\\\"", "\\u0041\\n\\ud83d\\ude00"]',
  '[0,-0,1,-1,23,24,255,256,65535,65536,4294967295,4294967296,-2147483648,-2147483649,1.5,-2.5e-7,1e300,1700000000.123]',
  '[true,false,null]',
  ' { "a" : [ 1 , 2 ] } ',
])('%s', async (json) => {
  expect(await turned(json)).toEqual(JSON.parse(json))
})

test('any JSON, and texts longer than a piece', async () => {
  await fc.assert(
    fc.asyncProperty(fc.jsonValue(), async (value) => {
      const json = JSON.stringify(value)
      expect(await turned(json)).toEqual(JSON.parse(json))
    }),
  )
  const long = { a: 'x'.repeat(200_000), b: Array.from({ length: 50_000 }, (_, i) => `label ${i}`) }
  expect(await turned(JSON.stringify(long))).toEqual(long)
})
