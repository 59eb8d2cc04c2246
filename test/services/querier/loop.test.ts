// Reading, answering and what is asked for oddly keep the thread of a querier no longer than evaluation does. All blocks are in memory: what is
// measured is the querier's own work.
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import type { QueryKind, QueryParams } from '../../../shared/contracts/query.ts'
import { compress } from '../../../shared/wire/snappy.ts'
import { readRequest } from '../../cluster/read-request.ts'
import { watchLoop } from '../../loop-watch.ts'
import { type Harness, startQuerier } from './harness.ts'
import { openStore, type Store, type StoredSeries } from './stored.ts'
import { fixedMembership, memoryHub, type StubIngester, stubIngester } from './stub-ingester.ts'

/** 50 on a calm machine; a busy one takes up to twice the processor time for the same. */
const STALL_MS_MAX = 100
const SERIES = 12_000
const SAMPLES = 40
const END_S = 7_200

let querier: Harness
let ingester: StubIngester
let store: Store

beforeAll(async () => {
  const hub = memoryHub()
  store = await openStore(hub)
  ingester = await stubIngester({ hub, id: 'a', data: { 0: [] } })
  const series = Array.from(
    { length: SERIES },
    (_, i): StoredSeries => ({
      labels: { __name__: 'wide', pod: `pod-${(i * 7919) % SERIES}-${'x'.repeat(40)}`, job: `j${i % 20}` },
      samples: Array.from({ length: SAMPLES }, (__, s) => [(s + 1) * 60_000, ((i * 31 + s * 7) % 1_000) / 8] as const),
    }),
  )
  const dense: StoredSeries = {
    labels: { __name__: 'dense' },
    samples: Array.from({ length: 200_000 }, (_, s) => [s * 36, ((s * 31) % 1_000) / 8] as const),
  }
  await store.commit([await store.upload([...series, dense])], { partition: 0, segment: 1 })
  querier = await startQuerier(hub, fixedMembership([['a']]), {}, store.objects)
}, 60_000)

afterAll(async () => {
  await querier.stop()
  await ingester.stop()
  store.blocks.close()
})

/** Of 20 MB and no more: whoever asks puts the parts of an answer together, and does so in this thread. */
const range = { start: '0', end: String(END_S), step: '120' }
const patterns = Array.from({ length: 1_000 }, (_, i) => `{pod=~"pod-[0-9]*${i}[0-9]?-.*(x|y)+${i}?"}`)
const read = (name: string, accepted: readonly number[]) => {
  const matchers = [{ name: '__name__', operator: '=' as const, value: name }]
  const request = readRequest([{ matchers, startMs: 0, endMs: END_S * 1_000 }], accepted)
  return { body: Buffer.from(compress(request)).toString('base64') }
}

describe('the thread is not kept by', () => {
  it.each<[string, QueryKind, QueryParams]>([
    ['reading many series', 'instant', { query: 'sum(count_over_time(wide[2h]))', time: String(END_S) }],
    ['one long series', 'instant', { query: 'dense[2h]', time: String(END_S) }],
    ['a large answer', 'range', { query: 'wide', ...range }],
    ['series', 'series', { match: ['wide'] }],
    ['label values', 'label_values', { name: 'pod', match: ['wide'] }],
    [
      'a pattern that is tried on all values',
      'label_values',
      { name: 'pod', match: ['{pod=~".*(1|2|3)+.*x{20}(a|x)+"}'] },
    ],
    ['a thousand selectors', 'labels', { match: patterns }],
    ['a page for a scraper', 'federate', { match: ['wide'] }],
    ['samples for a remote reader', 'read', read('wide', [0])],
    ['the samples of a long series', 'read', read('dense', [0])],
    ['chunks for a remote reader', 'read', read('dense', [1])],
    ['the longest text', 'parse', { query: `up{a=~"${'10\\\\.1\\\\.2|'.repeat(58_000)}"}` }],
    ['a chain of operators', 'parse', { query: `1${'+1'.repeat(300_000)}` }],
    ['many arguments', 'parse', { query: `label_join(up, "x", ","${', "abc"'.repeat(100_000)})` }],
  ])(
    '%s',
    async (_, kind, params) => {
      await querier.ask('parse', { query: 'up' })
      let worstMs = Number.POSITIVE_INFINITY
      for (let tries = 0; tries < 3 && worstMs >= STALL_MS_MAX; tries++) {
        const watch = watchLoop() // a collection of garbage in the wrong moment is no stall: it does not come every time
        if (kind === 'read') for await (const _piece of querier.read(params));
        else await querier.body(kind, params, AbortSignal.timeout(20_000)).catch(() => {})
        worstMs = watch.end()
      }
      expect(worstMs).toBeLessThan(STALL_MS_MAX)
    },
    60_000,
  )
})
