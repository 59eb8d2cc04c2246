// Whatever numbers a push holds: what is let in comes through log, head and block as it was, the rest is refused by item.
import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { admit } from '../../services/distributor/admit/admit.ts'
import { Staged } from '../../services/distributor/admit/staged.ts'
import { distributorSettings } from '../../services/distributor/config.ts'
import { Dictionary } from '../../services/distributor/log/dictionary.ts'
import { Batch, Session } from '../../services/distributor/log/session.ts'
import { buildBlocks } from '../../services/ingester/flush/flush-build.ts'
import { FrameBuilder } from '../../services/ingester/read/frames.ts'
import { PartitionState } from '../../services/ingester/state/partition-state.ts'
import { defaultsOf } from '../../shared/config/settings.ts'
import { encodeMark } from '../../shared/contracts/log.ts'
import type { Histogram } from '../../shared/model/histogram.ts'
import { ALL_TIME } from '../../shared/model/interval.ts'
import { HISTOGRAM_COUNT_MAX, SAMPLE_TIME_MS_MAX } from '../../shared/model/sample.ts'
import { decodeBlockChunk } from '../../shared/tsdb/block/chunk-samples.ts'
import { memoryFiles } from '../../shared/tsdb/block/files.ts'
import { parseMeta } from '../../shared/tsdb/block/meta.ts'
import { BlockReader } from '../../shared/tsdb/block/reader.ts'
import { SampleColumns } from '../../shared/tsdb/columns.ts'
import { StringTable } from '../../shared/tsdb/head/string-table.ts'
import { encodeCanonical } from '../../shared/wire/histogram.ts'
import {
  encodeWriteV1,
  encodeWriteV2,
  type PlainSeries,
  type PlainWrite,
} from '../../shared/wire/remote-write-encode.ts'
import { compress } from '../../shared/wire/snappy.ts'
import { Writer } from '../../shared/wire/varint.ts'
import { LogWriter, TENANT } from './ingester/log-writer.ts'

const NOW_MS = 1_700_000_000_000
const MAX = SAMPLE_TIME_MS_MAX
/** As set, or without an end. */
const anyFuture = fc.constantFrom(600_000, 2 ** 53)

const mark = { number: 1, writer: 'test', nonce: 'n' }

/** What one distributor makes of a body. */
function admitted(version: 1 | 2, request: PlainWrite, futureMs = 600_000) {
  return admittedBytes(version === 1 ? encodeWriteV1(request) : encodeWriteV2(request), version, futureMs)
}

function admittedBytes(body: Uint8Array, version: 1 | 2 = 1, futureMs = 600_000) {
  const staged = new Staged()
  const dictionary = new Dictionary()
  const nobody = () => {
    throw new Error('no series takes part in an election')
  }
  const context = {
    ...{ dictionary, tenant: TENANT, nowMs: NOW_MS, keepMs: Number.POSITIVE_INFINITY, partitionOf: () => 0 },
    config: defaultsOf(distributorSettings, { startTimestamps: true, futureMs }),
    haLabels: { cluster: 'cluster', replica: '__replica__' },
    elections: { mayClaim: nobody, claim: nobody, judge: nobody },
  }
  admit(version, compress(body), staged, context)
  return { staged, dictionary }
}

function logged({ staged, dictionary }: ReturnType<typeof admitted>): Uint8Array {
  const batch = new Batch(new Session(new Uint8Array(16), mark, dictionary))
  for (let i = 0; i < staged.count; i++) {
    batch.addFloat(staged.refs[i]!, staged.times[i]!, staged.words, i, staged.startTimes?.[i] ?? 0)
  }
  for (const histogram of staged.histograms) batch.addHistogram(histogram)
  for (const exemplar of staged.exemplars) batch.addExemplar(exemplar)
  return batch.seal()
}

function applied(messages: readonly Uint8Array[]) {
  const damages: string[] = []
  const named: string[] = []
  const state = new PartitionState({
    strings: new StringTable(),
    onDamage(kind, seq, text, _segment, whose) {
      damages.push(`${kind} at ${seq}: ${text}`)
      if (whose !== undefined) named.push(whose)
    },
    onSkipped: () => {},
    isForgetful: false,
  })
  state.applyMark(1, encodeMark(mark))
  for (const [i, message] of messages.entries()) state.applyBatch(2 + i, message)
  return { state, damages, named }
}

/** Series name → its samples as `time` or `time h count`, out of the blocks of the segment. */
async function flushed(state: PartitionState): Promise<Map<string, string[]>> {
  const head = state.heads.get(TENANT)
  const found = new Map<string, string[]>()
  if (head === undefined) return found
  const frames = new FrameBuilder(head, state['options'].strings, 'all')
  for (let ref = 0; ref < head.seriesCount; ref++) frames.add(ref, ALL_TIME, 1)
  const ask = { tenant: TENANT, origin: { kind: 'flush', partition: 0, segment: 1 } } as const
  for (const { files } of await buildBlocks(ask, [frames.take()])) {
    const bytes = new Map(files.map((file) => [file.name, file.bytes]))
    const reader = await BlockReader.open(memoryFiles(bytes), parseMeta(bytes.get('meta.json')!))
    for await (const batch of reader.allSeries()) {
      for (const { labels, chunks } of batch) {
        const columns = new SampleColumns()
        for (const chunk of chunks) decodeBlockChunk(chunk, columns)
        const rows = found.get(labels[1]!) ?? []
        found.set(labels[1]!, rows)
        for (let i = 0; i < columns.count; i++) {
          const count = columns.histograms?.[i]?.count
          const start = columns.startTimes?.[i] ?? 0
          rows.push(
            `${columns.times[i]}${count === undefined ? '' : ` h ${count}`}${start === 0 ? '' : ` since ${start}`}`,
          )
        }
      }
    }
  }
  return found
}

function canonicalOf(histogram: Histogram): Uint8Array {
  const out = new Writer(256)
  encodeCanonical(histogram, out)
  return out.finish()
}

const histogramOf = (count: number): Histogram => ({
  ...{ isFloat: false, resetHint: 'gauge', schema: 0, zeroThreshold: 0.1, zeroCount: count, count, sum: 1 },
  ...{ positiveSpans: [], positiveBuckets: [], negativeSpans: [], negativeBuckets: [], customValues: [] },
})

const edges = [0, 1, 2 ** 51, 2 ** 51 + 1, 8e15, 2 ** 52, 9.0065e15, 2 ** 53, 2 ** 60, 2 ** 63 - 1024, 1.79e18, NOW_MS]
const far = fc.oneof(
  fc.constantFrom(...edges, ...edges.map((edge) => -edge), -(2 ** 63), -5),
  fc.integer({ min: -(2 ** 53), max: 2 ** 53 }),
  fc.integer({ min: NOW_MS - 10_000_000, max: NOW_MS }),
)
const count = fc.constantFrom(0, 1, 2 ** 51 - 1, 2 ** 51, 2 ** 51 + 2, 2 ** 53, 2 ** 60)
const item = fc.record({ time: far, startTime: fc.oneof(fc.constant(0), far), count })
const oneSeries = fc.record({
  items: fc.array(item, { minLength: 1, maxLength: 6 }),
  isHistogram: fc.boolean(),
  exemplar: far,
})
const anyWrite = fc.array(oneSeries, { minLength: 1, maxLength: 6 })

const isIn = (time: number) => time >= -MAX && time <= MAX

describe('times and counts at the edges of what numbers hold', () => {
  it.each([1, 2] as const)(
    'remote write %i.0: every sound item is stored as it came, every other refused alone',
    async (version) => {
      await fc.assert(
        fc.asyncProperty(anyWrite, anyFuture, async (list, futureMs) => {
          const sent = list.map(
            ({ items, isHistogram, exemplar }, i): PlainSeries => ({
              labels: ['__name__', `m${i}`],
              ...(isHistogram
                ? { histograms: items.map(({ count: of, ...rest }) => ({ ...rest, histogram: histogramOf(of) })) }
                : { samples: items.map(({ count: value, ...rest }) => ({ ...rest, value })) }),
              exemplars: [{ labels: ['trace_id', 'x'], time: exemplar, value: 1 }],
            }),
          )
          const taken = admitted(version, { series: sent }, futureMs)
          const { staged } = taken
          const sound = list.map(({ items, isHistogram }) =>
            items.filter(({ time, count: of }) => {
              return (
                time >= -MAX && time <= Math.min(MAX, NOW_MS + futureMs) && (!isHistogram || of <= HISTOGRAM_COUNT_MAX)
              )
            }),
          )
          const [all, kept] = [list.flatMap(({ items }) => items).length, sound.flat().length]
          expect(staged.samples).toBe(kept)
          expect([...staged.discarded.values()].reduce((sum, n) => sum + n, 0)).toBe(all - kept)
          expect(staged.firstRefusal?.status).toBe(all === kept ? undefined : 400)
          const soundExemplars = list.filter(({ exemplar }) => isIn(exemplar)).length
          expect(staged.exemplars).toHaveLength(soundExemplars)
          expect(staged.leftOut.exemplars.get('time') ?? 0).toBe(list.length - soundExemplars)

          const { state, damages } = applied([logged(taken)])
          expect(damages).toEqual([])
          const stored = await flushed(state)
          for (const [i, { isHistogram }] of list.entries()) {
            const times = [...new Set(sound[i]!.map(({ time }) => time))].sort((a, b) => a - b)
            const rows = stored.get(`m${i}`) ?? []
            expect(rows.map((row) => Number(row.split(' ')[0]))).toEqual(times)
            for (const row of rows) {
              const made = sound[i]!.map(({ time, startTime, count: of }) => {
                const since = version === 2 && startTime !== 0 && isIn(startTime) ? ` since ${startTime}` : ''
                return `${time}${isHistogram ? ` h ${of}` : ''}${since}`
              })
              expect(made).toContain(row)
            }
          }
        }),
        { numRuns: 300 },
      )
    },
  )

  it('names the sample that is refused, and no setting where none would help', () => {
    const series = [
      { labels: ['__name__', 'good'], samples: [{ time: NOW_MS, value: 1 }] },
      { labels: ['__name__', 'far'], samples: [{ time: -9.0065e15, value: 1 }] },
    ]
    const { staged } = admitted(1, { series })
    expect(staged.firstRefusal).toMatchObject({ status: 400, code: 'err-carillon-sample-too-old' })
    expect(staged.firstRefusal!.text).toContain('timestamp too old: -9006500000000000 metric: "far"')
    expect(staged.firstRefusal!.text).not.toContain('--past')
  })

  it('an exemplar whose labels are no text costs nobody else anything', () => {
    const series = [{ labels: ['__name__', 'a'], samples: [{ time: NOW_MS, value: 1 }], exemplars: [] as never[] }]
    const bytes = Buffer.from(
      encodeWriteV1({ series: [{ ...series[0]!, exemplars: [{ labels: ['trace', 'XY'], time: NOW_MS, value: 1 }] }] }),
    )
    bytes.write('\xff\xfe', bytes.indexOf('XY'), 'latin1')
    const { staged } = admittedBytes(bytes)
    expect(staged.count).toBe(1)
    expect(staged.firstRefusal).toBeUndefined()
    expect([...staged.leftOut.exemplars]).toEqual([['label_invalid', 1]])
  })
})

describe('a log that holds what an older version let in', () => {
  it('what cannot be kept is named once for its batch, and its neighbours are stored', async () => {
    const writer = new LogWriter()
    writer.mark(1)
    const good = [NOW_MS, NOW_MS + 1]
    const batch = writer.batch([
      ['good', good[0]!, 1],
      ['x', -8e15, 1],
      ['x', -5, 2],
      ['x', 3e15, 3, 5],
      ['good', good[1]!, 2, -8e15],
    ])
    const ref = writer.refOf('h')
    for (const [time, value] of [
      [8e15, 1],
      [NOW_MS, 2 ** 52],
      [NOW_MS, 7],
    ] as const) {
      batch.addHistogram({ ref, time, canonical: canonicalOf(histogramOf(value)), startTime: 0 })
    }
    batch.addExemplar({ ref: writer.refOf('good'), time: 8e15, value: Float64Array.of(1), labels: ['trace_id', 'x'] })
    const floats = writer.batch([
      ['good', NOW_MS + 2, 3],
      ['x', 2 ** 51 + 1, 4],
    ])
    const { state, damages, named } = applied([batch.seal(), floats.seal()])
    expect(damages).toEqual([
      'unstorable at 2: 5 samples lie beyond what can be kept, the first at -8000000000000000 ms',
      'unstorable at 3: 1 samples lie beyond what can be kept, the first at 2251799813685249 ms',
    ])
    expect(named).toEqual([`tenant ${TENANT}, x`, `tenant ${TENANT}, x`])
    expect(Object.fromEntries(await flushed(state))).toEqual({
      good: [NOW_MS, NOW_MS + 1, NOW_MS + 2].map(String),
      x: ['-5'],
      h: [`${NOW_MS} h 7`],
    })
  })
})
