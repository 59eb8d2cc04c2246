import { describe, expect, it } from 'vitest'
import { MemoryPool, type MemoryPoolOptions } from '../../../services/querier/limits/memory-pool.ts'
import type { ProcessMemory } from '../../../services/querier/limits/process-memory.ts'
import { systemClock } from '../../../shared/base/clock.ts'
import { RefusedError } from '../../../shared/base/errors.ts'
import { seededRandom } from '../../../shared/base/random.ts'
import type { Histogram } from '../../../shared/model/histogram.ts'
import { labelsKey } from '../../../shared/model/labels.ts'
import { createEngine, ENGINE_DEFAULTS, type QueryResult } from '../../../shared/promql/engine.ts'
import { QueryCancelledError } from '../../../shared/promql/exec/errors.ts'
import type { QueryMemory } from '../../../shared/promql/memory.ts'
import { FUNCTIONS } from '../../../shared/promql/parse/functions.ts'
import type { SeriesSamples, SeriesSource } from '../../../shared/promql/source.ts'
import { fixture, START_MS, STEP_MS, STEPS } from '../../fuzz/promql-fixture.ts'
import { queryMaker } from '../../fuzz/promql-grammar.ts'

const MIB = 1024 * 1024

function poolOf(changes: Partial<MemoryPoolOptions> = {}) {
  const refusals: string[] = []
  const counts = { collections: 0 }
  const pool = new MemoryPool({
    bytesMax: 1024 * MIB,
    queryBytesMax: 512 * MIB,
    clock: systemClock,
    cachedBytes: () => 0,
    onRefusal: (limit) => refusals.push(limit),
    onCollection: () => void counts.collections++,
    ...changes,
  })
  return { pool, refusals, counts }
}

function refusalOf(work: () => void): RefusedError {
  try {
    work()
  } catch (error) {
    if (error instanceof RefusedError) return error
    throw error
  }
  throw new Error('was not refused')
}

describe('MEMORY-1: what is charged fits', () => {
  it('a query is refused more than one query may hold, and then holds what it held', () => {
    const { pool, refusals } = poolOf({ queryBytesMax: 10 * MIB })
    const account = pool.open()
    account.charge(10 * MIB)
    const refusal = refusalOf(() => account.charge(1))
    expect(refusal).toMatchObject({ code: 'err-carillon-query-memory', status: 422 })
    expect(refusal.message).toContain('10 MiB of memory (--query-memory-max)')
    expect([pool.bytes, account.bytes, refusals]).toEqual([10 * MIB, 10 * MIB, ['query']])
    account.release(MIB)
    account.charge(MIB)
  })

  it('what caches keep is not there for queries', () => {
    let cachedBytes = 0
    const { pool } = poolOf({ cachedBytes: () => cachedBytes })
    const before = pool.roomBytes
    cachedBytes = 100 * MIB
    expect(pool.roomBytes).toBe(before - cachedBytes)
  })
})

describe('MEMORY-2: an account that was closed', () => {
  it('holds nothing and is charged nothing any more', () => {
    const { pool } = poolOf()
    const account = pool.open()
    account.charge(MIB)
    account.close()
    account.close()
    account.release(MIB)
    expect(() => account.charge(1)).toThrow(QueryCancelledError)
    expect(pool.bytes).toBe(0)
  })
})

describe('MEMORY-3: nobody waits', () => {
  it('queries that hold much are refused first; those that hold little get the last of the room, and are told to try again', () => {
    const { pool, refusals } = poolOf({ queryBytesMax: 4096 * MIB })
    const large = pool.open()
    while (pool.bytes + MIB <= (pool.roomBytes * 7) / 8) large.charge(MIB)
    expect(refusalOf(() => large.charge(MIB))).toMatchObject({ code: 'err-carillon-querier-memory', status: 422 })
    const few = Array.from({ length: 200 }, () => pool.open())
    const taken = few.findIndex((account) => {
      try {
        account.charge(MIB)
        return false
      } catch {
        return true
      }
    })
    expect(taken).toBeGreaterThan(90)
    const refusal = refusalOf(() => pool.open().charge(MIB))
    expect(refusal).toMatchObject({ code: 'err-carillon-querier-memory', status: 429, retryAfterS: 1 })
    large.close()
    few[taken]!.charge(MIB)
    expect(refusals).toEqual(['querier', 'querier', 'querier'])
  })
})

describe('a process that comes near its bound', () => {
  it('collects its garbage, and refuses who holds much where that does not help', () => {
    let garbageBytes = 0
    let liveBytes = 100 * MIB
    let heapShare = 0.1
    const process: ProcessMemory = {
      machineBytes: 4096 * MIB,
      rss: () => liveBytes + garbageBytes,
      held: () => liveBytes + garbageBytes,
      heapShare: () => heapShare,
      collect: () => {
        garbageBytes = 0
      },
    }
    const { pool, counts } = poolOf({ process })
    const account = pool.open()
    account.charge(50 * MIB)
    expect(counts.collections).toBe(0)
    garbageBytes = 1000 * MIB
    account.charge(3 * MIB)
    expect([counts.collections, garbageBytes]).toEqual([1, 0])
    liveBytes = 1100 * MIB
    expect(refusalOf(() => account.charge(3 * MIB))).toMatchObject({ code: 'err-carillon-querier-memory', status: 422 })
    pool.open().charge(3 * MIB) // holds little
    liveBytes = 100 * MIB
    heapShare = 0.8
    expect(refusalOf(() => account.charge(3 * MIB))).toMatchObject({ code: 'err-carillon-querier-memory', status: 422 })
    expect(pool.bytes).toBe(56 * MIB)
  })
})

describe('a process whose allocator keeps what was freed', () => {
  it('leaves less room to queries that hold much, and none the less answers those that hold little', () => {
    let keptBytes = 0
    const process: ProcessMemory = {
      machineBytes: 4096 * MIB,
      rss: () => 100 * MIB + keptBytes,
      held: () => 100 * MIB,
      heapShare: () => 0.1,
      collect: () => {},
    }
    const { pool, counts } = poolOf({ process, queryBytesMax: 4096 * MIB })
    const large = pool.open()
    large.charge(600 * MIB)
    const roomBytes = pool.roomBytes
    keptBytes = 800 * MIB
    large.charge(2 * MIB) // looks at the process
    expect(counts.collections).toBe(1)
    expect(pool.roomBytes).toBe(roomBytes / 2)
    expect(pool.bytes).toBeGreaterThan(pool.roomBytes)
    expect(refusalOf(() => large.charge(MIB))).toMatchObject({ code: 'err-carillon-querier-memory', status: 422 })
    pool.open().charge(MIB)
    expect(pool.bytes).toBe(603 * MIB)
  })
})

describe('what evaluation charges', () => {
  const all = stored()
  const source: SeriesSource = {
    async select(matchers) {
      return all.filter(({ labels }) =>
        matchers.every(({ name, operator, value }) => {
          const at = labels.findIndex((key, i) => i % 2 === 0 && key === name)
          const text = at < 0 ? '' : labels[at + 1]!
          const isMatch = operator.endsWith('~') ? new RegExp(`^(?:${value})$`).test(text) : text === value
          return isMatch === operator.startsWith('=')
        }),
      )
    },
  }
  const dialect = {
    functions: [...FUNCTIONS.values()],
    hasLimit: true,
    hasExtendedRanges: true,
    hasFill: true,
    hasDurationExpressions: true,
  }
  const features = ['promql-experimental-functions', 'promql-extended-range-selectors', 'promql-binop-fill-modifiers']
  const engine = createEngine({ ...ENGINE_DEFAULTS, clock: systemClock, enabledFeatures: new Set(features) })

  it('covers the answer, never falls below nothing, and is gone when the query has ended, however it did', async () => {
    const seed = Number(process.env['CARILLON_SEED'] ?? Date.now() % 1_000_000)
    const random = seededRandom(seed)
    const next = queryMaker(random, dialect)
    const { pool } = poolOf()
    const outcomes = { answered: 0, failed: 0, refused: 0, cancelled: 0 }
    for (let i = 0; i < 600; i++) {
      const text = next()
      const account = pool.open()
      const boundBytes = random.next() < 0.3 ? random.below(512) * 1024 : Number.POSITIVE_INFINITY
      const cancelAt = random.next() < 0.1 ? random.below(6) : Number.POSITIVE_INFINITY
      const cancelling = new AbortController()
      let chargeCount = 0
      const memory: QueryMemory = {
        charge(bytes) {
          expect(bytes).toBeGreaterThan(0)
          if (chargeCount++ === cancelAt) cancelling.abort()
          if (account.bytes + bytes > boundBytes)
            throw new RefusedError('err-carillon-query-memory', 'enough', { status: 422 })
          account.charge(bytes)
        },
        release(bytes) {
          expect(bytes).toBeGreaterThan(0)
          account.release(bytes)
          expect(account.bytes).toBeGreaterThanOrEqual(0)
        },
      }
      const steps = random.below(200)
      const range = { startMs: START_MS, endMs: START_MS + steps * STEP_MS, stepMs: steps === 0 ? 0 : STEP_MS }
      const times = steps === 0 ? { ...range, startMs: START_MS + 3e6, endMs: START_MS + 3e6 } : range
      try {
        const { value } = await engine.query({ text, ...times, signal: cancelling.signal, memory }, source)
        const why = `seed ${seed}: ${text}`
        expect(account.bytes, why).toBeGreaterThanOrEqual(bytesOf(value) - 64 * 1024)
        expect(account.bytes, why).toBeLessThanOrEqual(boundBytes)
        outcomes.answered++
      } catch (error) {
        if (!(error instanceof RefusedError)) throw new Error(`seed ${seed}: ${text}`, { cause: error })
        if (error.code === 'err-carillon-query-memory') outcomes.refused++
        else if (error instanceof QueryCancelledError) outcomes.cancelled++
        else outcomes.failed++
      }
      account.close()
      expect(pool.bytes).toBe(0)
    }
    expect(Math.min(...Object.values(outcomes)), JSON.stringify(outcomes)).toBeGreaterThan(0)
  })

  it('is let go between the parts of an expression: twenty of them in a row hold little more than one', async () => {
    const peakOf = async (text: string) => {
      let heldBytes = 0
      let peakBytes = 0
      const memory: QueryMemory = {
        charge(bytes) {
          heldBytes += bytes
          peakBytes = Math.max(peakBytes, heldBytes)
        },
        release(bytes) {
          heldBytes -= bytes
        },
      }
      const range = { startMs: START_MS, endMs: START_MS + 200 * STEP_MS, stepMs: 1000 }
      await engine.query({ text, ...range, signal: new AbortController().signal, memory }, source)
      return peakBytes
    }
    const one = 'sum(sort(memory_bytes))'
    expect(await peakOf(Array(20).fill(one).join(' + '))).toBeLessThan(2 * (await peakOf(one)) + MIB)
  })
})

/** The numbers in an answer. */
function bytesOf(value: QueryResult['value']): number {
  if (value.type === 'matrix') return value.series.reduce((sum, { values }) => sum + 8 * values.length, 0)
  return value.type === 'vector' ? 8 * value.samples.length : 0
}

function stored(): SeriesSamples[] {
  const found = new Map<
    string,
    { labels: readonly string[]; times: number[]; values: number[]; histograms: (Histogram | undefined)[] }
  >()
  for (const series of fixture(seededRandom(1)).slice(0, STEPS).flat()) {
    const key = labelsKey(series.labels)
    const into = found.get(key) ?? { labels: series.labels, times: [], values: [], histograms: [] }
    found.set(key, into)
    for (const { time, value } of series.samples ?? []) {
      into.times.push(time)
      into.values.push(Number(value))
      into.histograms.push(undefined)
    }
    for (const { time, histogram } of series.histograms ?? []) {
      into.times.push(time)
      into.values.push(0)
      into.histograms.push(histogram)
    }
  }
  return [...found.values()].map(({ labels, times, values, histograms }) => {
    const plain = { labels, times: Float64Array.from(times), values: Float64Array.from(values) }
    return histograms.some((each) => each !== undefined) ? { ...plain, histograms } : plain
  })
}
