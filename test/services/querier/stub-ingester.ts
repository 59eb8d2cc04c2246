// An ingester as far as its contract with queriers goes: it answers from a table, and does what a test tells it to do first.
import { systemClock } from '../../../shared/base/clock.ts'
import { UnavailableError } from '../../../shared/base/errors.ts'
import { seededRandom } from '../../../shared/base/random.ts'
import { serve, serveStream } from '../../../shared/bus/actor.ts'
import { createMemoryHub, type MemoryHub } from '../../../shared/bus/memory/memory-bus.ts'
import { runActor } from '../../../shared/bus/run-actor.ts'
import type { MemberRecord } from '../../../shared/contracts/member.ts'
import * as read from '../../../shared/contracts/read.ts'
import type { Member, Membership } from '../../../shared/membership/membership.ts'
import { type Labels, labelsFrom } from '../../../shared/model/labels.ts'
import { silentLog } from '../../../shared/telemetry/log.ts'
import { ENCODING_XOR, encodeXor, wordsOf, xorBytesMax } from '../../../shared/tsdb/chunk/xor.ts'
import { HASH_A_EMPTY, HASH_B_EMPTY, hashText, mixA, mixB } from '../../../shared/tsdb/label-hash.ts'
import { compileMatchers } from '../../../shared/tsdb/matcher-set.ts'

export interface StubSeries {
  readonly labels: Record<string, string>
  /** Each chunk: [time, value] pairs. */
  readonly chunks: readonly (readonly (readonly [number, number])[])[]
  /** Of the log; absent: newer than any that is in blocks. */
  readonly segment?: number
}

export type StubData = Readonly<Record<number, readonly StubSeries[]>>

export interface StubOptions {
  readonly hub: MemoryHub
  readonly id: string
  readonly data: StubData
  /** Before an answer begins, and (`frame` from 1 on) before each further frame. */
  readonly before?: (ask: read.OwnerRequest, frame: number, signal: AbortSignal) => Promise<void> | void
  readonly seriesPerFrame?: number
  readonly warnings?: readonly string[]
  readonly metadata?: readonly read.MetricMetadata[]
  readonly exemplars?: read.ExemplarsReply['series']
}

export interface StubIngester {
  readonly asks: read.OwnerRequest[]
  /** Handlers at work. */
  inFlight(): number
  stop(): Promise<void>
}

export async function stubIngester(options: StubOptions): Promise<StubIngester> {
  const { hub, id, data, before = () => {}, seriesPerFrame = 2, warnings = [] } = options
  const asks: read.OwnerRequest[] = []
  const stamp: read.OwnerStamp = { incarnation: 'i', appliedSeq: 1, firstSegment: 0, warnings }
  const matching = (ask: read.OwnerRequest, selectors: readonly read.SelectRequest['matchers'][]) => {
    const compiled = selectors.map(compileMatchers)
    return (data[ask.partition] ?? []).filter(
      ({ labels, segment = Number.POSITIVE_INFINITY }) =>
        segment > ask.watermark &&
        (compiled.length === 0 || compiled.some((set) => set.every((m) => m.matches(labels[m.name] ?? '')))),
    )
  }

  async function begin(ask: read.OwnerRequest, signal: AbortSignal): Promise<void> {
    asks.push(ask)
    if (!(ask.partition in data))
      throw new UnavailableError('err-carillon-not-owner', `${id} does not own ${ask.partition}`)
    await before(ask, 0, signal)
  }

  async function* frames(
    ask: read.OwnerRequest,
    series: readonly StubSeries[],
    mode: FrameMode,
    signal: AbortSignal,
    names?: readonly string[],
  ) {
    await begin(ask, signal)
    const encoder = new FrameEncoder(names)
    yield { ...encoder.encode(series.slice(0, seriesPerFrame), mode), stamp }
    for (let at = seriesPerFrame, frame = 1; at < series.length; at += seriesPerFrame, frame++) {
      await before(ask, frame, signal)
      yield encoder.encode(series.slice(at, at + seriesPerFrame), mode)
    }
  }

  async function values(ask: read.SeriesRequest, signal: AbortSignal, of: (series: StubSeries) => readonly string[]) {
    await begin(ask, signal)
    return { stamp, values: [...new Set(matching(ask, ask.selectors).flatMap(of))].slice(0, ask.limit) }
  }

  const actor = {
    name: 'ingester',
    serves: [
      serveStream(
        read.select,
        (ask, { signal }) => {
          const series = matching(ask, [ask.matchers])
          return frames(ask, ask.mode === 'last' ? newestOf(series, ask) : series, ask.mode, signal, ask.names)
        },
        {
          id,
        },
      ),
      serveStream(
        read.series,
        (ask, { signal }) => frames(ask, newestOf(matching(ask, ask.selectors), ask), 'bare', signal),
        { id },
      ),
      serve(read.labelNames, (ask, { signal }) => values(ask, signal, ({ labels }) => Object.keys(labels)), { id }),
      serve(
        read.labelValues,
        (ask, { signal }) => values(ask, signal, ({ labels }) => [labels[ask.name] ?? []].flat()),
        { id },
      ),
      serve(read.metadata, async () => ({ stamp, metadata: options.metadata ?? [] }), { id }),
      serve(read.exemplars, async () => ({ stamp, series: options.exemplars ?? [] }), { id }),
    ],
    hears: [],
    every: [],
    start: async () => {},
    stop: async () => {},
  }
  const running = runActor(actor, {
    bus: hub.connect(id),
    clock: systemClock,
    random: seededRandom(1),
    log: silentLog,
    drainMs: 50,
  })
  await running.ready
  return { asks, inFlight: () => running.inFlight(), stop: () => running.stop() }
}

type FrameMode = 'all' | 'last' | 'bare'

/** Frames of one answer: strings are numbered across them. */
export class FrameEncoder {
  private readonly numbers = new Map<string, number>()
  private readonly setNumbers = new Map<string, number>()
  private readonly names: readonly string[] | undefined

  constructor(names?: readonly string[]) {
    this.names = names
  }

  encode(series: readonly StubSeries[], mode: FrameMode): read.SelectFrame {
    const strings: Buffer[] = []
    const stringEnds: number[] = []
    const numberOf = (text: string) => {
      const known = this.numbers.get(text)
      if (known !== undefined) return known
      const bytes = Buffer.from(text)
      strings.push(bytes)
      stringEnds.push((stringEnds.at(-1) ?? 0) + bytes.length)
      this.numbers.set(text, this.numbers.size)
      return this.numbers.size - 1
    }
    const { names, setNumbers } = this
    const sets: Labels[] = []
    const setOf = series.map(({ labels }) => {
      const wanted = Object.entries(labels).filter(([name]) => names === undefined || names.includes(name))
      const set = labelsFrom(Object.fromEntries(wanted))
      const known = names && setNumbers.get(set.join('\0'))
      if (known !== undefined) return known
      setNumbers.set(set.join('\0'), setNumbers.size)
      sets.push(set)
      return setNumbers.size - 1
    })
    const projected = {
      sets: Uint32Array.from(setOf),
      hashes: Uint32Array.from(series.flatMap(({ labels }) => hashOf(labelsFrom(labels)))),
    }
    const labels = Uint32Array.from(sets.flatMap((set) => set.map(numberOf)))
    const bare = {
      strings: Buffer.concat(strings),
      stringEnds: Uint32Array.from(stringEnds),
      labelCounts: Uint16Array.from(sets.map((set) => set.length / 2)),
      labels,
      ...(names && projected),
    }
    if (mode === 'bare') return bare
    return mode === 'last' ? { ...bare, ...lastOf(series) } : { ...bare, ...chunksOf(series) }
  }
}

function hashOf(labels: Labels): readonly [number, number] {
  const words = new Uint32Array(2)
  let a = HASH_A_EMPTY
  let b = HASH_B_EMPTY
  for (const text of labels) {
    hashText(text, words, 0)
    a = mixA(a, words[0]!)
    b = mixB(b, words[1]!)
  }
  return [a >>> 0, b >>> 0]
}

/** Each series with its newest sample up to the end of the range alone; without those that have none within it. */
function newestOf(
  all: readonly StubSeries[],
  { startMs, endMs }: read.SelectRequest | read.SeriesRequest,
): readonly StubSeries[] {
  return all.flatMap((series) => {
    const within = series.chunks.flat().filter(([time]) => time >= startMs && time <= endMs)
    if (within.length === 0) return []
    return [{ ...series, chunks: [[within.reduce((a, b) => (b[0] >= a[0] ? b : a))]] }]
  })
}

function lastOf(series: readonly StubSeries[]) {
  const newest = series.map(({ chunks }) => chunks.flat().reduce((a, b) => (b[0] >= a[0] ? b : a)))
  return {
    times: Float64Array.from(newest.map(([time]) => time)),
    values: Float64Array.from(newest.map(([, value]) => value)),
  }
}

function chunksOf(series: readonly StubSeries[]) {
  const all = series.flatMap(({ chunks }) => chunks)
  const encoded = all.map((samples) => {
    const out = new Uint8Array(xorBytesMax(samples.length))
    const times = Float64Array.from(samples.map(([time]) => time))
    const values = Float64Array.from(samples.map(([, value]) => value))
    return out.subarray(0, encodeXor(times, wordsOf(values), 0, samples.length, out, 0))
  })
  let end = 0
  return {
    chunkCounts: Uint32Array.from(series.map(({ chunks }) => chunks.length)),
    chunkEncodings: new Uint8Array(all.length).fill(ENCODING_XOR),
    chunkSamples: Uint16Array.from(all.map((samples) => samples.length)),
    chunkEnds: Uint32Array.from(encoded.map((bytes) => (end += bytes.length))),
    chunks: Buffer.concat(encoded),
  }
}

export function memoryHub(): MemoryHub {
  return createMemoryHub({ clock: systemClock, random: seededRandom(1) })
}

/** A membership that says what the test says. */
export function fixedMembership(
  owners: readonly (readonly string[])[],
  ingesters = [...new Set(owners.flat())],
): Membership {
  const record = (id: string): MemberRecord => ({
    v: 1,
    id,
    role: 'ingester',
    zone: '',
    state: 'ACTIVE',
    incarnation: 'x',
    startedAtMs: 0,
    version: 'test',
    capacity: 0,
    holds: [],
    damageCount: 0,
    ringRevision: 0,
    beat: 0,
  })
  const members: Member[] = ingesters.map((id) => ({ ...record(id), isHealthy: true, isFresh: true, silentMs: 0 }))
  return {
    id: 'querier-1',
    incarnation: 'y',
    members: () => members,
    live: (role) => members.filter((member) => member.role === role),
    partitionCount: () => owners.length,
    replicationFactor: () => 1,
    readableCount: () => owners.length,
    writableCount: () => owners.length,
    owners: (partition) => owners[partition] ?? [],
    holders: (partition) => owners[partition] ?? [],
    readers: (partition) => [...new Set([...(owners[partition] ?? []), ...ingesters])],
    confirm: async () => {},
    isConfirmed: () => true,
    ring: () => {
      throw new Error('nobody asks this stub for the ring')
    },
    onChange: () => ({ stop: () => {} }),
    setState: async () => {},
    setHolds: () => {},
    setDamage: () => {},
    leave: async () => {},
  }
}
