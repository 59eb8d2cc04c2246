// The forms in which a query may be asked over NATS.
import { Encoder } from 'cbor-x'
import { afterAll, beforeAll, expect, it } from 'vitest'
import type { Bus, BusHeaders } from '../../../shared/bus/port.ts'
import { type Harness, startQuerier } from './harness.ts'
import { fixedMembership, memoryHub, type StubIngester, stubIngester } from './stub-ingester.ts'

const cbor = new Encoder({ useRecords: false })
let querier: Harness
let ingester: StubIngester
let bus: Bus

beforeAll(async () => {
  const hub = memoryHub()
  const labels = { __name__: 'up', job: 'x' }
  ingester = await stubIngester({ hub, id: 'a', data: { 0: [{ labels, chunks: [[[1_000, 1]]] }] } })
  querier = await startQuerier(hub, fixedMembership([['a']]))
  bus = hub.connect('anyone')
})
afterAll(async () => {
  await querier.stop()
  await ingester.stop()
})

async function raw(subject: string, payload: Uint8Array, headers: BusHeaders = {}): Promise<Uint8Array> {
  return (await bus.request(subject, payload, { timeoutMs: 5_000, headers })).payload
}

const up = { resultType: 'vector', result: [{ metric: { __name__: 'up', job: 'x' }, value: [1, '1'] }] }

const asCbor = { 'Content-Type': 'application/cbor' }

it('CBOR in, CBOR out, also for errors', async () => {
  const answer = await raw('query.anonymous.instant', cbor.encode({ query: 'up', time: 1 }), asCbor)
  expect(cbor.decode(answer)).toEqual({ status: 'success', data: up })
  const error = await raw('query.anonymous.instant', cbor.encode({}), asCbor)
  expect(cbor.decode(error)).toMatchObject({ status: 'error', errorType: 'bad_data' })
})

it('JSON as a person types it: numbers, one selector, white space', async () => {
  const answer = await raw('query.anonymous.instant', Buffer.from(' {"query":"up","time":1}\n'))
  expect(JSON.parse(Buffer.from(answer).toString())).toEqual({ status: 'success', data: up })
  for (const name of ['match', 'match[]']) {
    const series = await raw('query.anonymous.series', Buffer.from(JSON.stringify({ [name]: 'up' })))
    expect(JSON.parse(Buffer.from(series).toString()).data).toEqual([{ __name__: 'up', job: 'x' }])
  }
})

it.each([
  ['instant', '{"query":{}}', 'invalid parameter "query": a text was wanted'],
  ['series', '{"match":[1,null]}', 'invalid parameter "match[]": a text was wanted'],
  ['instant', '[]', 'a query is asked with an object of its parameters'],
  ['nothing', '{}', 'there is no query of the kind "nothing"; there are instant, range, '],
])('%s %s is refused in the shape of the API', async (kind, payload, text) => {
  const answer = JSON.parse(Buffer.from(await raw(`query.anonymous.${kind}`, Buffer.from(payload))).toString())
  expect(answer).toMatchObject({ status: 'error', errorType: 'bad_data' })
  expect(answer.error).toContain(text)
})

it.each([
  ['JSON', {}, 'up', 'a query is asked with a JSON object of its parameters'],
  ['CBOR', asCbor, '{"query":"up"}', 'a query is asked with '],
])('what is not the %s it was said to be is refused', async (form, headers, payload, text) => {
  const answer = await raw('query.anonymous.instant', Buffer.from(payload), headers)
  const body = form === 'CBOR' ? cbor.decode(answer) : JSON.parse(Buffer.from(answer).toString())
  expect(body).toMatchObject({ status: 'error', errorType: 'bad_data' })
  expect(body.error).toContain(text)
})
