// STATE-4: what is dropped is forgotten, and nothing else: samples, series, label strings, under churn.
import fc from 'fast-check'
import { expect, test } from 'vitest'
import { PartitionState } from '../../../services/ingester/state/partition-state.ts'
import { SampleColumns } from '../../../shared/tsdb/columns.ts'
import { StringTable } from '../../../shared/tsdb/head/string-table.ts'
import { LogWriter, TENANT } from './log-writer.ts'

const ALL = { startMs: 0, endMs: 1e15 }

function freshState(strings: StringTable): PartitionState {
  return new PartitionState({
    strings,
    onDamage: (kind, seq, text) => expect.unreachable(`${kind}@${seq}: ${text}`),
    onSkipped: () => {},
    isForgetful: false,
  })
}

/** What is answered for a pattern of names: series with their samples. */
function answer(state: PartitionState, pattern: string): string[] {
  const head = state.heads.get(TENANT)
  if (head === undefined) return []
  const refs = head.select([{ name: '__name__', operator: '=~', value: pattern }], ALL)
  return Array.from(refs, (ref) => {
    const columns = new SampleColumns()
    head.readInto(ref, ALL, columns)
    const samples = Array.from({ length: columns.count }, (_, i) => `${columns.times[i]}=${columns.values[i]}`)
    return `${head.labelsOf(ref).join('=')} ${samples.join(' ')}`
  }).sort()
}

interface Applied {
  readonly segment: number
  readonly name: string
  readonly time: number
  readonly value: number
}

function model(applied: readonly Applied[], droppedUpTo: number, pattern: RegExp): string[] {
  const bySeries = new Map<string, Map<number, number>>()
  for (const { segment, name, time, value } of applied) {
    if (segment <= droppedUpTo || !pattern.test(name)) continue
    const samples = bySeries.get(name) ?? new Map<number, number>()
    bySeries.set(name, samples.set(time, Math.max(value, samples.get(time) ?? value)))
  }
  return [...bySeries]
    .map(([name, samples]) => {
      const sorted = [...samples].sort(([a], [b]) => a - b).map(([time, value]) => `${time}=${value}`)
      return `__name__=${name} ${sorted.join(' ')}`
    })
    .sort()
}

const step = fc.oneof(
  {
    weight: 5,
    arbitrary: fc.record({ kind: fc.constant('write' as const), from: fc.nat(12), isStored: fc.boolean() }),
  },
  { weight: 3, arbitrary: fc.record({ kind: fc.constant('mark' as const) }) },
  { weight: 2, arbitrary: fc.record({ kind: fc.constant('drop' as const), behind: fc.nat(2) }) },
)

test('STATE-4: owners that drop at different times answer alike, and as a model without memory to spare', () => {
  fc.assert(
    fc.property(fc.array(step, { minLength: 5, maxLength: 40 }), (steps) => {
      const strings = new StringTable()
      const states = [freshState(strings), freshState(strings), freshState(new StringTable())] as const
      const [prompt, lazy, keeping] = states
      const log = new LogWriter()
      const applied: Applied[] = []
      let seq = 1
      const mark = () => {
        const payload = log.mark(prompt.segment + 1)
        for (const state of states) state.applyMark(seq, payload)
        seq++
      }
      mark()
      for (const [i, one] of steps.entries()) {
        if (one.kind === 'mark') mark()
        else if (one.kind === 'drop') prompt.dropSegments(prompt.segment - 1 - one.behind)
        else {
          const samples = Array.from(
            { length: 100 },
            (_, n) => [`s${40 * one.from + n}`, 1000 * i + (n % 7), n] as const,
          )
          const batch = log.batch(samples)
          const payload = batch.seal()
          for (const state of states) state.applyBatch(seq, payload)
          if (one.isStored) log.session!.markStored(batch, seq)
          for (const [name, time, value] of samples) applied.push({ segment: prompt.segment, name, time, value })
          seq++
        }
        if (i % 9 === 8) lazy.dropSegments(prompt.droppedUpTo)
        expect(answer(prompt, 's1.*')).toEqual(model(applied, prompt.droppedUpTo, /^s1.*/))
      }
      lazy.dropSegments(prompt.droppedUpTo)
      for (const state of [prompt, lazy]) {
        expect(answer(state, '.*')).toEqual(model(applied, prompt.droppedUpTo, /.*/))
        expect(state.segments()).toEqual(keeping.segments().filter((segment) => segment > prompt.droppedUpTo))
        for (const segment of state.segments()) expect(state.digest(segment)).toBe(keeping.digest(segment))
        const head = state.heads.get(TENANT)
        const held = new Set(applied.filter(({ segment }) => segment > prompt.droppedUpTo).map(({ name }) => name))
        expect(head?.labelValues('__name__', [], ALL) ?? []).toEqual([...held].sort())
      }
      for (const state of states) void state.use.end()
      expect(strings.bytes, 'no string is left in use').toBe(new StringTable().bytes + 76 * strings.count)
    }),
    { numRuns: 60 },
  )
})

test('STATE-4: exemplars of a tenant that is silent are held while they are stated again, and go with it when they are not', () => {
  const strings = new StringTable()
  const state = freshState(strings)
  const log = new LogWriter()
  const traced = () => {
    const batch = log.batch([])
    batch.addExemplar({ ref: log.refOf('a'), time: 5, value: Float64Array.of(1), labels: ['trace_id', 't'] })
    return batch.seal()
  }
  state.applyMark(1, log.mark(1))
  state.applyBatch(2, log.batch([['a', 5, 1]]).seal())
  state.applyBatch(3, traced())
  state.applyMark(4, log.mark(2))
  state.applyBatch(5, traced())
  for (let number = 3; number <= 5; number++) state.applyMark(3 + number, log.mark(number)) // no session goes on
  for (const upTo of [1, 2]) {
    state.dropSegments(upTo) // what was told in segment 2 is stated again when 3 is flushed
    expect(state.heads.get(TENANT)!.sampleCount).toBe(0)
    expect(state.heads.get(TENANT)!.newestExemplars(10)).toMatchObject([{ segment: 2, exemplar: { time: 5 } }])
  }
  state.dropSegments(4)
  expect(state.heads.size).toBe(0)
  expect(strings.find('trace_id')).toBeUndefined()
})

test('STATE-4: memory stays level while series come and go', () => {
  const strings = new StringTable()
  const state = freshState(strings)
  const log = new LogWriter()
  const bytes: number[] = []
  let seq = 1
  for (let segment = 1; segment <= 50; segment++) {
    state.applyMark(seq++, log.mark(segment))
    for (let round = 0; round < 4; round++) {
      const samples = Array.from(
        { length: 1000 },
        (_, n) => [`churn-${segment}-${n}`, segment * 1e6 + round, n] as const,
      )
      const lasting = Array.from({ length: 500 }, (_, n) => [`stays-${n}`, segment * 1e6 + round, n] as const)
      state.applyBatch(seq++, log.batch([...samples, ...lasting]).seal())
    }
    state.dropSegments(segment - 2)
    bytes.push(strings.bytes + state.heads.get(TENANT)!.bytes)
  }
  expect(Math.max(...bytes.slice(10))).toBeLessThan(Math.max(...bytes.slice(4, 10)) * 1.1)
  expect(state.heads.get(TENANT)!.seriesCount).toBeLessThan(6000)
  expect(strings.count).toBeLessThan(7000)
  for (let silent = 51; silent <= 53; silent++) state.applyMark(seq++, log.mark(silent))
  state.dropSegments(52)
  expect(state.heads.size, 'a tenant that is silent takes nothing').toBe(0)
  expect(strings.find('stays-1')).toBeUndefined()
})

test('STATE-4: a reading that lasts meets the same strings, whatever is swept and interned meanwhile', () => {
  const strings = new StringTable()
  const old = strings.intern('old')
  const end = strings.reading()
  strings.sweep()
  expect(strings.find('old')).toBeUndefined()
  const next = strings.intern('new')
  expect(next).not.toBe(old)
  expect(strings.text(old)).toBe('old')
  end()
  strings.sweep()
  expect(strings.intern('newest')).toBe(old === 0 ? strings.find('newest') : old)
  expect(strings.text(strings.find('newest')!)).toBe('newest')
})

test('STATE-4: a walk over series goes on with what is left of them after a compaction', () => {
  const strings = new StringTable()
  const state = freshState(strings)
  const log = new LogWriter()
  let seq = 1
  state.applyMark(seq++, log.mark(1))
  state.applyBatch(seq++, log.batch(Array.from({ length: 200 }, (_, n) => [`a${n}`, 1, n] as const)).seal())
  state.applyMark(seq++, log.mark(2))
  state.applyMark(seq++, log.mark(3))
  state.applyBatch(seq++, log.batch(Array.from({ length: 50 }, (_, n) => [`a${4 * n}`, 2, n] as const)).seal())
  const head = state.heads.get(TENANT)!
  const cursor = head.cursor(head.select([], ALL))
  const walked = [0, 1, 2].map(() => head.labelsOf(cursor.next())[1])
  state.dropSegments(2)
  expect(head.seriesCount).toBe(50)
  for (let ref = cursor.next(); ref >= 0; ref = cursor.next()) walked.push(head.labelsOf(ref)[1])
  cursor.close()
  expect(walked).toEqual(['a0', 'a1', 'a2', ...Array.from({ length: 49 }, (_, n) => `a${4 * n + 4}`)])
})

test('STATE-4: a series that a session still names keeps its number, whatever is forgotten around it', () => {
  const state = freshState(new StringTable())
  const log = new LogWriter()
  const nameOf = (i: number) => `series_${i}`
  const all = Array.from({ length: 300 }, (_, i) => i)
  state.applyMark(1, log.mark(1))
  const unnamed = log.batch(all.map((i) => [`gone_${i}`, 1, 1]))
  state.applyBatch(2, unnamed.seal())
  state.applyMark(3, log.mark(2))
  const session = log.session!
  const batch = log.batch(all.map((i) => [nameOf(i), 2, i]))
  state.applyBatch(4, batch.seal())
  session.markStored(batch, 4)
  state.applyMark(5, log.mark(3))
  state.dropSegments(2) // nothing is held of any series; those of the last session are named yet
  const late = log.batch([[nameOf(150), 3, 7]], session) // defines nothing
  state.applyBatch(6, late.seal())
  expect(answer(state, '.+')).toEqual([`__name__=${nameOf(150)} 3=7`])
})
