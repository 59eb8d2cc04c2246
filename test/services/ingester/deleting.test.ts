// What is deleted stays away, and only that, through replays, flushes, compactions and undoing: against a plain list of samples.
import fc from 'fast-check'
import { expect, test } from 'vitest'
import { PartitionState } from '../../../services/ingester/state/partition-state.ts'
import {
  hidersOf,
  hidingIn,
  isFinal,
  isUnderWay,
  mayMerge,
  withDelete,
  withEnded,
  withListed,
  withPositions,
  withReplaced,
  withUndone,
} from '../../../shared/blocks/delete-rules.ts'
import type { BlockEntry, BlockOrigin, Manifest } from '../../../shared/contracts/blocks.ts'
import { encodeDelete } from '../../../shared/contracts/deletes.ts'
import { decodeXor } from '../../../shared/tsdb/chunk/xor.ts'
import { SampleColumns } from '../../../shared/tsdb/columns.ts'
import { DeleteFilter, hiddenIntervals, pushVisible } from '../../../shared/tsdb/delete-filter.ts'
import { StringTable } from '../../../shared/tsdb/head/string-table.ts'
import { LogWriter, TENANT } from './log-writer.ts'

const ALL = { startMs: 0, endMs: 1e15 }
const PARTITIONS = [0, 1]
const WINDOW_MS = 30
const LIFE = 'one'

interface Sample {
  readonly name: string
  readonly time: number
  readonly value: number
}
interface Message {
  readonly kind: 'mark' | 'batch' | 'delete'
  readonly payload: Uint8Array
}
/** What the model knows of a sample: when it was written. */
interface Written extends Sample {
  readonly at: number
}
interface Deletion {
  readonly id: string
  readonly names: readonly string[]
  readonly startMs: number
  readonly endMs: number
  /** When the fence that counts went into each partition. */
  readonly at: number[]
  isUndone: boolean
}

function freshState(): PartitionState {
  return new PartitionState({
    incarnation: () => LIFE,
    strings: new StringTable(),
    onDamage: (kind, seq, text) => expect.unreachable(`${kind}@${seq}: ${text}`),
    onSkipped: () => {},
    isForgetful: false,
  })
}

/** One partition: its log, an owner, what was flushed. */
class Partition {
  readonly number: number
  readonly log: Message[] = []
  readonly writer = new LogWriter()
  state = freshState()
  flushed = 0
  readonly written: Written[] = []
  /** Index of each mark in the log. */
  readonly marks = new Map<number, number>()

  constructor(number: number) {
    this.number = number
    this.mark()
  }

  mark(): void {
    this.marks.set(this.state.segment + 1, this.log.length)
    this.append({ kind: 'mark', payload: this.writer.mark(this.state.segment + 1) })
  }

  append(message: Message): void {
    this.log.push(message)
    this.apply(this.state, this.log.length - 1)
  }

  apply(state: PartitionState, index: number): void {
    const { kind, payload } = this.log[index]!
    if (kind === 'mark') state.applyMark(index + 1, payload)
    else if (kind === 'batch') state.applyBatch(index + 1, payload)
    else state.applyDelete(index + 1, payload)
  }

  /** What a new owner holds: replay from the mark of the newest flushed segment. */
  replayed(): PartitionState {
    const state = freshState()
    state.dropSegments(this.flushed)
    for (let i = this.marks.get(Math.max(1, this.flushed))!; i < this.log.length; i++) this.apply(state, i)
    return state
  }
}

class House {
  readonly partitions = PARTITIONS.map((number) => new Partition(number))
  readonly stored = new Map<string, Sample[]>()
  readonly deletions: Deletion[] = []
  manifest: Manifest = { ...{ tenant: TENANT, version: 0, previous: '', flushed: {} }, ...EMPTY }
  now = 1
  private ulids = 0
  private version = 0
  /** Steps of deletions that are not done yet. */
  todo: (() => void)[] = []

  write(samples: readonly Sample[], partition: Partition): void {
    const batch = partition.writer.batch(samples.map(({ name, time, value }) => [name, time, value] as const))
    partition.append({ kind: 'batch', payload: batch.seal() })
    for (const sample of samples) partition.written.push({ ...sample, at: partition.log.length })
  }

  /** Only the first step at once: a crash may lie between any two. Fences may be written again; one that cannot be read is one all the same. */
  delete(names: readonly string[], startMs: number, endMs: number, luck: number): void {
    const id = `d${this.deletions.length}`
    const selectors = [[{ name: '__name__', operator: '=~' as const, value: names.join('|') }]]
    const asked = { askedAtMs: this.now, askedBy: 'test', undoUntilMs: 0 }
    const entry = { id, kind: 'series' as const, selectors, startMs, endMs, ...asked }
    const looker = { nowMs: this.now, flushed: () => 0 }
    const asOf = this.manifest.version + 1 // all are made by the first version here
    this.manifest = withDelete(this.manifest, { entry, partitions: PARTITIONS, asOf }, looker)!
    const at = PARTITIONS.map(() => Number.NaN)
    this.deletions.push({ id, names, startMs, endMs, at, isUndone: false })
    const whole = encodeDelete({ id, tenant: TENANT, kind: 'series', selectors, startMs, endMs })
    for (const partition of this.partitions) {
      const payload = (luck >> partition.number) % 2 === 0 ? whole : Buffer.from('?')
      const fence = () => {
        partition.append({ kind: 'delete', payload })
        const place = { incarnation: LIFE, segment: partition.state.segment, seq: partition.log.length }
        const position = () => this.manifest.deletes.find((each) => each.id === id)?.positions[partition.number]
        const before = position()
        const found = new Map([[partition.number, place]])
        this.manifest = withPositions(this.manifest, id, { found, nowMs: this.now, undoMs: WINDOW_MS }) ?? this.manifest
        if (before === null && position() !== null) at[partition.number] = partition.log.length
      }
      this.todo.push(fence)
      if (luck % 3 === 0) this.todo.push(fence)
    }
  }

  undo(index: number): void {
    const deletion = this.deletions[index % this.deletions.length]
    const entry = this.manifest.deletes.find(({ id }) => id === deletion?.id)
    if (deletion === undefined || entry === undefined || !['placing', 'active'].includes(entry.state)) return
    this.manifest = withUndone(this.manifest, deletion.id, { by: 'test', nowMs: this.now })!
    deletion.isUndone = true
  }

  flush(partition: Partition, usesReplay: boolean): void {
    const segment = partition.flushed + 1
    if (segment >= partition.state.segment) return
    const state = usesReplay ? partition.replayed() : partition.state
    expect(state.digest(segment)).toBe(partition.state.digest(segment))
    const head = state.heads.get(TENANT)
    const blocks = (head?.partsOf(segment) ?? []).map(({ seq }) => {
      const origin = { kind: 'flush' as const, partition: partition.number, segment, incarnation: LIFE, cut: seq }
      return this.store(storedIn(state, { segment, seq }), origin)
    })
    if (blocks.length > 0) {
      const digest = head!.digest(segment)
      this.manifest = withListed(this.manifest, { partition: partition.number, segment, digest, blocks })!
    }
    partition.flushed = segment
  }

  store(samples: readonly Sample[], origin: BlockOrigin): BlockEntry {
    const ulid = `b${this.ulids++}`
    this.stored.set(ulid, [...samples])
    const times = samples.map(({ time }) => time)
    const counts = { seriesCount: 1, sampleCount: samples.length, chunkCount: 1, bytes: 1, metaSha256: '' }
    const minTime = Math.min(...times)
    return { ulid, minTime, maxTime: Math.max(...times) + 1, ...counts, origin, resolutionMs: 0 }
  }

  /** Merges two blocks where deletions allow it; writes those anew whose undo window is over. */
  compact(first: number): void {
    const flushed = (p: number) => this.partitions[p]!.flushed
    this.manifest = withEnded(this.manifest, { nowMs: this.now, flushed })
    const { blocks } = this.manifest
    const final = this.manifest.deletes.filter(isFinal)
    const due = final.find((entry) => entry.blocks.length > 0)
    const sources = due ? due.blocks.slice(0, 1) : blocks.slice(first, first + 2).map(({ ulid }) => ulid)
    if (sources.length === 0 || !mayMerge(this.manifest.deletes, sources)) return
    const applied = final.filter((entry) => entry.blocks.includes(sources[0]!)).map(({ id }) => id)
    const filters = final.filter(({ id }) => applied.includes(id)).map((entry) => new DeleteFilter(entry))
    const samples = sources.flatMap((ulid) => visible(this.stored.get(ulid)!, filters))
    const results = samples.length === 0 ? [] : [this.store(samples, { kind: 'compaction', level: 2 })]
    const replaced = { sources, results: results.map(({ ulid }) => ulid), applied }
    this.manifest = {
      ...this.manifest,
      blocks: [...blocks.filter(({ ulid }) => !sources.includes(ulid)), ...results],
      deletes: withReplaced(this.manifest.deletes, replaced),
    }
    for (const ulid of sources) this.stored.delete(ulid)
  }

  /** What a query sees: blocks, and of the owners what they say is flushed is left out. */
  read(states: readonly PartitionState[]): string[] {
    const seen: Sample[] = []
    for (const { ulid } of this.manifest.blocks) {
      const filters = hidersOf(this.manifest.deletes, ulid).map((entry) => new DeleteFilter(entry))
      seen.push(...visible(this.stored.get(ulid)!, filters))
    }
    for (const [partition, state] of states.entries()) {
      state.heads.get(TENANT)?.hide(++this.version, () => hidingIn(this.manifest, partition))
      seen.push(...shownBy(state))
    }
    return union(seen)
  }

  model(): string[] {
    const seen = this.partitions.flatMap((partition) =>
      partition.written.filter((sample) => !this.deletions.some((deletion) => isGone(deletion, sample, partition))),
    )
    return union(seen)
  }
}

const EMPTY = { blocks: [], retired: [], deletes: [], fence: 0 }

function isGone(
  { names, startMs, endMs, at, isUndone }: Deletion,
  { name, time, at: written }: Written,
  of: Partition,
) {
  return !isUndone && names.includes(name) && time >= startMs && time <= endMs && written < at[of.number]!
}

function union(samples: readonly Sample[]): string[] {
  const greatest = new Map<string, number>()
  for (const { name, time, value } of samples) {
    const key = `${name}@${time}`
    greatest.set(key, Math.max(value, greatest.get(key) ?? value))
  }
  return [...greatest].map(([key, value]) => `${key}=${value}`).sort()
}

function visible(samples: readonly Sample[], filters: readonly DeleteFilter[]): Sample[] {
  return samples.filter(({ name, time, value }) => {
    const sink = new SampleColumns()
    const run = { times: Float64Array.of(time), values: Float64Array.of(value), start: 0, end: 1 }
    pushVisible(run, hiddenIntervals(filters, ['__name__', name]), sink)
    return sink.count === 1
  })
}

/** What an owner shows, by each of the ways in which it is asked. */
function shownBy(state: PartitionState): Sample[] {
  const head = state.heads.get(TENANT)
  const refs = head?.select([], ALL) ?? []
  const found: Sample[] = []
  const named: string[] = []
  for (const ref of refs) {
    const name = head!.labelsOf(ref)[1]!
    const columns = new SampleColumns()
    const chunks: Sample[] = []
    const last = new SampleColumns()
    head!.readInto(ref, ALL, columns)
    head!.chunksOf(ref, ALL, (_encoding, bytes, minTime, maxTime, count) => {
      const decoded = decoded1(name, bytes, count)
      expect([decoded[0]!.time, decoded.at(-1)!.time]).toEqual([minTime, maxTime])
      chunks.push(...decoded)
    })
    const samples = Array.from({ length: columns.count }, (_, i) => ({
      ...{ name, time: columns.times[i]!, value: columns.values[i]! },
    }))
    expect(union(chunks)).toEqual(union(samples))
    expect(samples.length, 'a series without visible samples is not selected').toBeGreaterThan(0)
    head!.lastInto(ref, ALL, last)
    expect([last.times[0], last.values[0]]).toEqual([samples.at(-1)!.time, samples.at(-1)!.value])
    found.push(...samples)
    named.push(name)
  }
  expect(head?.labelValues('__name__', [], ALL) ?? []).toEqual(named.sort())
  return found
}

function storedIn(state: PartitionState, part: { segment: number; seq: number }): Sample[] {
  const head = state.heads.get(TENANT)
  const found: Sample[] = []
  for (let ref = 0; ref < (head?.seriesCount ?? 0); ref++) {
    head!.storedChunksOf(ref, part.segment, (_encoding, bytes, _min, _max, count, _segment, seq) => {
      if (seq !== part.seq) return
      found.push(...decoded1(head!.labelsOf(ref)[1]!, bytes, count))
    })
  }
  return found
}

function decoded1(name: string, bytes: Uint8Array, count: number): Sample[] {
  const times = new Float64Array(count)
  const values = new Float64Array(count)
  decodeXor(bytes, 0, bytes.length, times, values, 0)
  return Array.from({ length: count }, (_, i) => ({ name, time: times[i]!, value: values[i]! }))
}

const NAMES = ['a', 'b', 'c', 'd']
const sample = fc.record({ name: fc.constantFrom(...NAMES), time: fc.nat(40), value: fc.nat(3) })
const partition = fc.constantFrom(...PARTITIONS)
const names = fc.subarray(NAMES, { minLength: 1 })
const step = fc.oneof(
  {
    weight: 8,
    arbitrary: fc.tuple(fc.constant('write'), partition, fc.array(sample, { minLength: 1, maxLength: 12 })),
  },
  { weight: 4, arbitrary: fc.tuple(fc.constant('mark'), partition) },
  { weight: 3, arbitrary: fc.tuple(fc.constant('delete'), names, fc.nat(40), fc.nat(40), fc.nat(11)) },
  { weight: 2, arbitrary: fc.tuple(fc.constant('undo'), fc.nat(5)) },
  { weight: 6, arbitrary: fc.tuple(fc.constant('go on'), fc.integer({ min: 1, max: 4 })) },
  { weight: 5, arbitrary: fc.tuple(fc.constant('flush'), partition, fc.boolean()) },
  { weight: 2, arbitrary: fc.tuple(fc.constant('drop'), partition) },
  { weight: 3, arbitrary: fc.tuple(fc.constant('again'), partition, fc.nat(12)) },
  { weight: 4, arbitrary: fc.tuple(fc.constant('compact'), fc.nat(3)) },
) as fc.Arbitrary<[string, ...unknown[]]>

function run(house: House, [kind, ...args]: [string, ...unknown[]]): void {
  const of = house.partitions[args[0] as number]!
  house.now++
  if (kind === 'write') house.write(args[1] as Sample[], of)
  else if (kind === 'mark') of.mark()
  else if (kind === 'delete') {
    const [at, width] = [args[1] as number, args[2] as number]
    house.delete(args[0] as string[], at, at + width, (args[3] as number | undefined) ?? 1)
  } else if (kind === 'undo') house.undo(args[0] as number)
  else if (kind === 'go on') for (const next of house.todo.splice(0, args[0] as number)) next()
  else if (kind === 'flush') house.flush(of, args[1] as boolean)
  else if (kind === 'drop') of.state.dropSegments(of.flushed)
  else if (kind === 'compact') house.compact(args[0] as number)
  else {
    const held = of.marks.get(of.state.droppedUpTo + 1) ?? of.log.length
    const from = Math.max(held, of.log.length - 1 - (args[1] as number))
    for (let i = from; i < of.log.length; i++) if (of.log[i]!.kind !== 'mark') of.apply(of.state, i)
  }
}

test('DELETE-2, DELETE-4, DELETE-7 to DELETE-9, DELETE-12, DELETE-14: random writes, deletions, undoing, replays, flushes and compactions, against a list of samples', () => {
  fc.assert(
    fc.property(fc.array(step, { minLength: 3, maxLength: 80 }), (steps) => {
      const house = new House()
      for (const one of steps) {
        run(house, one)
        if (house.todo.length > 0) continue // half done: neither before nor after
        for (const { state, flushed } of house.partitions) state.dropSegments(flushed)
        expect(house.read(house.partitions.map(({ state }) => state))).toEqual(house.model())
      }
      while (house.todo.length > 0) house.todo.shift()!()
      for (const { state, flushed } of house.partitions) state.dropSegments(flushed)
      expect(house.read(house.partitions.map(({ state }) => state)), 'the owner that saw it all').toEqual(house.model())
      expect(house.read(house.partitions.map((each) => each.replayed())), 'an owner that replayed').toEqual(
        house.model(),
      )
      house.now += 1000
      for (const each of house.partitions) {
        each.mark()
        while (each.flushed < each.state.segment - 1) house.flush(each, false)
        each.state.dropSegments(each.flushed)
      }
      for (let i = 0; i < 200; i++) house.compact(i % 3)
      expect(house.read(house.partitions.map(({ state }) => state)), 'all of it removed').toEqual(house.model())
      expect(house.manifest.deletes.filter(isUnderWay), 'no deletion is left').toEqual([])
    }),
    { numRuns: 150 },
  )
}, 60_000)

test('DELETE-14: what was written again after a deletion is not merged with what it hides', () => {
  const house = new House()
  const again = { name: 'a', time: 5, value: 1 }
  for (const one of [0, 1]) {
    run(house, ['write', 0, [{ ...again, value: 3 - one }]])
    if (one === 0) run(house, ['delete', ['a'], 0, 40, 1])
    run(house, ['go on', 9])
    run(house, ['mark', 0])
    run(house, ['flush', 0, false])
  }
  run(house, ['drop', 0])
  const ulids = house.manifest.blocks.map(({ ulid }) => ulid)
  expect(ulids.length).toBe(2)
  expect(mayMerge(house.manifest.deletes, ulids)).toBe(false)
  run(house, ['compact', 0])
  expect(house.read(house.partitions.map(({ state }) => state))).toEqual(['a@5=2'])
})
