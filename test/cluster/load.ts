// A load on a system: senders that push remote_write bodies over HTTP, each repeated until it is answered 2xx, into a ledger.
//
// What is drawn depends on the seed alone; when it is sent does not. Every sender has series of its own, so a (series, time) has one value.
import { setTimeout as sleep } from 'node:timers/promises'
import { textOf } from '../../shared/base/errors.ts'
import { type Random, seededRandom } from '../../shared/base/random.ts'
import { CUSTOM_BUCKETS_SCHEMA, type Histogram } from '../../shared/model/histogram.ts'
import { type Labels, labelsFrom } from '../../shared/model/labels.ts'
import {
  encodeWriteV1,
  encodeWriteV2,
  type PlainSeries,
  type PlainWrite,
} from '../../shared/wire/remote-write-encode.ts'
import { compress } from '../../shared/wire/snappy.ts'
import { Ledger } from './ledger.ts'

const RETRY_MS = 50
const ANSWER_MS_MAX = 45_000
const STEP_MS = 250
const BACK_MS = 60_007
const FLOAT_SERIES = 12

export interface LoadOptions {
  /** Where to push; asked again before each try. */
  readonly url: () => string
  readonly seed: number
  readonly senders?: number
  /** Pause of each sender between two pushes. */
  readonly pauseMs?: number
  /** A body that is not answered 2xx this long fails the load. */
  readonly givenUpMs?: number
  readonly seriesPerPush?: number
  /** Tells the series of this load from those of others. */
  readonly tag?: string
}

export interface Answered {
  readonly atMs: number
  readonly outcome: string
  readonly text?: string
}

export interface Load {
  readonly ledger: Ledger
  /** Every answer and every connection error, in order; outcome is the status or `connection`. */
  readonly answers: readonly Answered[]
  /** Times of `performance.now()` at which pushes were acknowledged. */
  acknowledgedAtMs(): number[]
  /** Outcomes and how often they were met. */
  outcomes(): Record<string, number>
  /** Lets every body that is under way get through, and ends. Rejects when one was refused or given up. */
  stop(): Promise<void>
  /** Ends without waiting for what is under way: it stays unacknowledged. */
  abandon(): Promise<void>
}

export function startLoad(options: LoadOptions): Load {
  const { senders = 4, seed } = options
  const ledger = new Ledger()
  const answers: Answered[] = []
  const startMs = Date.now() - 1_800_000
  let isStopping = false
  const leaving = new AbortController()
  const running = Array.from({ length: senders }, (_, sender) => send(sender, seededRandom(seed * 1000 + sender)))
  const all = Promise.all(running)
  all.catch(() => {}) // told by stop
  return {
    ledger,
    answers,
    acknowledgedAtMs: () => answers.filter(({ outcome }) => outcome === '204').map(({ atMs }) => atMs),
    outcomes() {
      const counts: Record<string, number> = {}
      for (const { outcome } of answers) counts[outcome] = (counts[outcome] ?? 0) + 1
      return counts
    },
    async stop() {
      isStopping = true
      await all
    },
    async abandon() {
      isStopping = true
      leaving.abort()
      await all
    },
  }

  async function send(sender: number, random: Random): Promise<void> {
    for (let round = 0; !isStopping; round++) {
      const write = draw(random, {
        sender: `${options.tag ?? ''}${sender}`,
        offsetMs: sender,
        round,
        startMs,
        seriesPerPush: options.seriesPerPush ?? FLOAT_SERIES,
      })
      const isV2 = round % 2 === 1
      ledger.send(write)
      const body = compress(isV2 ? encodeWriteV2(write) : encodeWriteV1(write))
      if (await pushed(body, isV2)) ledger.acknowledge(write)
      if (options.pauseMs) await sleep(options.pauseMs)
    }
  }

  async function pushed(body: Uint8Array, isV2: boolean): Promise<boolean> {
    const endMs = performance.now() + (options.givenUpMs ?? 90_000)
    while (performance.now() < endMs) {
      if (leaving.signal.aborted) return false
      const { outcome, text } = await push(options.url(), body, isV2, leaving.signal)
      answers.push({ atMs: performance.now(), outcome, ...(text ? { text } : {}) })
      if (outcome.startsWith('2')) return true
      if (outcome.startsWith('4')) throw new Error(`a push was refused with ${outcome}: ${text}`)
      await sleep(RETRY_MS)
    }
    throw new Error(`a push was given up; last answers: ${JSON.stringify(answers.slice(-5))}`)
  }
}

/** One try. */
export async function push(
  url: string,
  body: Uint8Array,
  isV2: boolean,
  leave?: AbortSignal,
): Promise<{ outcome: string; text: string }> {
  const late = AbortSignal.timeout(ANSWER_MS_MAX)
  try {
    const response = await fetch(`${url}/api/v1/push`, {
      method: 'POST',
      body: body as Uint8Array<ArrayBuffer>,
      signal: leave ? AbortSignal.any([late, leave]) : late,
      headers: {
        'Content-Encoding': 'snappy',
        'Content-Type': isV2
          ? 'application/x-protobuf;proto=io.prometheus.write.v2.Request'
          : 'application/x-protobuf;proto=prometheus.WriteRequest',
      },
    })
    const text = await response.text()
    return {
      outcome: String(response.status),
      text: `${response.headers.get('x-carillon-error-id') ?? ''} ${text}`.trim(),
    }
  } catch (error) {
    return { outcome: late.aborted ? 'no answer' : 'connection', text: textOf(error) }
  }
}

interface Place {
  readonly sender: string
  readonly offsetMs: number
  readonly round: number
  readonly startMs: number
  readonly seriesPerPush: number
}

function draw(random: Random, place: Place): PlainWrite {
  const { sender, offsetMs, round, startMs, seriesPerPush } = place
  const back = round > 0 && random.next() < 0.1 ? BACK_MS : 0 // late samples, at times of their own
  const time = startMs + round * STEP_MS + offsetMs - back
  const series: PlainSeries[] = Array.from({ length: seriesPerPush }, (_, i) => ({
    labels: floatLabels(sender, i),
    samples: [
      { time, value: drawValue(random) },
      { time: time + 100, value: drawValue(random) },
    ],
    ...(i === 0 && round % 8 === 0 ? { exemplars: [exemplar(sender, round, time)] } : {}),
    ...(i === 0 ? { metadata: { type: 'gauge' as const, help: 'what a load writes', unit: '' } } : {}),
  }))
  for (const kind of ['integer', 'float', 'custom'] as const) {
    const histograms = [{ time, histogram: drawHistogram(kind, round, random) }]
    series.push({ labels: labelsFrom({ __name__: 'load_histogram', kind, sender }), histograms })
  }
  const metadata = [{ name: 'load_histogram', type: 'histogram' as const, help: 'native histograms', unit: 'seconds' }]
  return round % 2 === 1 ? { series } : { series: series.map(withoutMetadata), metadata }
}

/** 1.0 has metadata of its own. */
function withoutMetadata({ metadata: _, ...series }: PlainSeries): PlainSeries {
  return series
}

function floatLabels(sender: string, index: number): Labels {
  return labelsFrom({ __name__: 'load_float', sender, series: `s${index}` })
}

function exemplar(sender: string, round: number, time: number) {
  return { labels: labelsFrom({ trace_id: `t-${sender}-${round}` }), time, value: round }
}

const STALE_BITS = '7ff0000000000002'
const odd = [
  '8000000000000000', // -0
  '7ff8000000000123', // a NaN with a payload
  'fff8000000000001', // a negative NaN
  '7ff0000000000005', // a signalling NaN that is no stale marker
  '7ff0000000000000', // +Inf
  'fff0000000000000', // -Inf
  '0000000000000001', // the smallest number
  '7fefffffffffffff', // the greatest
]

function drawValue(random: Random): Float64Array {
  const value = new Float64Array(1)
  const kind = random.below(20)
  const bits = kind === 0 ? STALE_BITS : odd[random.below(odd.length)]
  if (kind < 2)
    new BigUint64Array(value.buffer)[0] = BigInt(`0x${bits}`) // as a number it might lose its bits
  else if (kind < 8) value[0] = random.below(1000)
  else value[0] = (random.next() - 0.5) * 10 ** random.below(30)
  return value
}

const twoSpans = [
  { offset: 0, length: 1 },
  { offset: 2, length: 1 },
]

function drawHistogram(kind: 'integer' | 'float' | 'custom', round: number, random: Random): Histogram {
  const isFloat = kind === 'float'
  const first = round + 1 + (isFloat ? 0.5 : 0)
  const more = random.below(5)
  return {
    isFloat,
    resetHint: 'unknown',
    schema: kind === 'custom' ? CUSTOM_BUCKETS_SCHEMA : 2,
    zeroThreshold: kind === 'custom' ? 0 : 0.001,
    zeroCount: kind === 'custom' ? 0 : 2,
    count: first + more + (kind === 'custom' ? 0 : 3),
    sum: random.next() * 100,
    positiveSpans: kind === 'custom' ? [{ offset: 0, length: 2 }] : twoSpans,
    positiveBuckets: [first, more],
    negativeSpans: kind === 'custom' ? [] : [{ offset: 1, length: 1 }],
    negativeBuckets: kind === 'custom' ? [] : [1],
    customValues: kind === 'custom' ? [1, 2.5, 10] : [],
  }
}
