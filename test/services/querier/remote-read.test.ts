// READ-1: remote reads of any length in pieces: the bytes of one whole answer, with little held at a time.
import { afterAll, beforeAll, describe, expect, it, vi } from 'vitest'
import { READ_CHUNKS, READ_SAMPLES } from '../../../shared/contracts/query.ts'
import { compress } from '../../../shared/wire/snappy.ts'
import { type PlainReadQuery, readRequest } from '../../cluster/read-request.ts'
import { type Harness, startQuerier } from './harness.ts'
import { fixedMembership, memoryHub, type StubIngester, type StubSeries, stubIngester } from './stub-ingester.ts'

const SERIES = 100
const SAMPLES = 3_000
const T0 = 1_700_000_000_000

/** In no order, spread over two partitions, some in both; values that do not compress. */
function load(): Record<number, StubSeries[]> {
  const data: Record<number, StubSeries[]> = { 0: [], 1: [] }
  for (let i = 0; i < SERIES; i++) {
    const s = (i * 67) % SERIES
    const labels = {
      __name__: `load_${s % 3}`,
      job: `j|${s % 7}`,
      ...(s % 5 === 0 ? {} : { path: `/a.b(${s % 11})` }),
      pod: s % 4 === 0 ? 'shared' : `pod ${s}`,
      n: `${Math.floor(s / 12)}`,
    }
    const sampleAt = (k: number) => [T0 + k * 1000, Math.sin(s * SAMPLES + k) * 1e6] as const
    const chunks = Array.from({ length: SAMPLES / 100 }, (_, c) =>
      Array.from({ length: 100 }, (_, k) => sampleAt(c * 100 + k)),
    )
    data[s % 2]!.push({ labels, chunks: s % 10 === 3 ? chunks.slice(0, 20) : chunks })
    if (s % 10 === 3) data[1 - (s % 2)]!.push({ labels, chunks: chunks.slice(10) })
  }
  return data
}

const all = { name: '__name__', operator: '=~', value: 'load_.*' } as const
const range = { startMs: T0 + 500, endMs: T0 + SAMPLES * 1000 }
const body = (queries: readonly PlainReadQuery[], shapes: readonly number[]) => ({
  body: Buffer.from(compress(readRequest(queries, shapes))).toString('base64'),
})
const chunksOf = (...queries: PlainReadQuery[]) => body(queries, [1])

async function gathered(pieces: AsyncIterable<Uint8Array>): Promise<Buffer> {
  const list: Uint8Array[] = []
  for await (const piece of pieces) list.push(piece)
  return Buffer.concat(list)
}

describe('remote read', () => {
  const stops: (() => Promise<void>)[] = []
  let ingesters: StubIngester[]
  let wide: Harness
  let narrow: Harness

  beforeAll(async () => {
    const data = load()
    const start = async (changes: Parameters<typeof startQuerier>[2]) => {
      const hub = memoryHub()
      const owners = await Promise.all(
        [0, 1].map((p) => stubIngester({ hub, id: `i${p}`, data: { [p]: data[p]! }, seriesPerFrame: 8 })),
      )
      const querier = await startQuerier(hub, fixedMembership([['i0'], ['i1']]), changes)
      stops.push(querier.stop, ...owners.map(({ stop }) => stop))
      return { querier, owners }
    }
    wide = (await start({})).querier
    const bounded = await start({ queryMemoryBytesMax: 2 * 1024 * 1024, samplesMax: SAMPLES * 40 })
    narrow = bounded.querier
    ingesters = bounded.owners
  })
  afterAll(async () => {
    for (const stop of stops) await stop()
  })

  it('chunks come as one that had everything at once would send them, by one that may not have it', async () => {
    const asked = chunksOf({ matchers: [all], ...range }, { matchers: [{ ...all, value: 'load_1' }], ...range })
    const pieces: Uint8Array[] = []
    for await (const piece of narrow.read(asked)) pieces.push(piece)
    expect(pieces.length).toBeGreaterThan(8)
    const ours = Buffer.concat(pieces)
    expect(ours[0]).toBe(READ_CHUNKS)
    expect(ours.length).toBeGreaterThan(2.5 * 1024 * 1024)
    expect(ours.equals(await gathered(wide.read(asked)))).toBe(true)
  })

  it('samples are made whole, and refused where they do not fit', async () => {
    const asked = body([{ matchers: [all], ...range }], [])
    const refused = JSON.parse((await gathered(narrow.read(asked))).toString()) as { error: string }
    expect(refused).toMatchObject({ status: 'error', errorType: 'execution' })
    expect(refused.error).toMatch(/err-carillon-query-(memory|samples)/)
    const whole = await gathered(wide.read(asked))
    expect(whole[0]).toBe(READ_SAMPLES)
    expect(whole.length).toBeGreaterThan(1024 * 1024)
  })

  it('nothing found is an answer without frames', async () => {
    const none = { matchers: [{ ...all, value: 'none' }], ...range }
    expect([...(await gathered(narrow.read(chunksOf(none))))]).toEqual([READ_CHUNKS])
  })

  it('more matchers than are taken are refused before they are made', async () => {
    const many = { matchers: Array.from({ length: 10_001 }, () => all), ...range }
    expect((await gathered(narrow.read(chunksOf(many)))).toString()).toContain('too many matchers')
  })

  it('whoever leaves ends the work, at once and everywhere', async () => {
    const pieces = narrow.read(chunksOf({ matchers: [all], ...range }))
    expect((await pieces.next()).done).toBe(false)
    await pieces.return()
    await vi.waitFor(() => expect([narrow, ...ingesters].map((each) => each.inFlight())).toEqual([0, 0, 0]), {
      timeout: 1_000,
      interval: 5,
    })
    expect(await narrow.metrics.text()).toMatch(/carillon_querier_memory_bytes\S* 0\n/)
  })
})
