// Results of parts: as they travel and are kept, and as one answer again.
import type { Breath } from '../../../shared/base/breathing.ts'
import type { PartSeries, QueryPartReply } from '../../../shared/contracts/query-part.ts'
import type { Histogram } from '../../../shared/model/histogram.ts'
import { labelsKey } from '../../../shared/model/labels.ts'
import type { EvaluatedResult, MatrixSeries, QueryResult, StepCounts } from '../../../shared/promql/engine.ts'
import { annotationTexts, uniteAnnotations } from '../../../shared/promql/exec/annotations.ts'
import { sortedByLabels } from '../../../shared/promql/exec/labels.ts'
import { decodeCanonical, encodeCanonical } from '../../../shared/wire/histogram.ts'
import { Writer } from '../../../shared/wire/varint.ts'

interface Steps {
  readonly startMs: number
  readonly endMs: number
  readonly stepMs: number
}

const countOf = ({ startMs, endMs, stepMs }: Steps) => Math.floor((endMs - startMs) / stepMs) + 1

/** The series of a part's matrix. */
export async function packed({ value }: EvaluatedResult, steps: Steps, breath: Breath): Promise<readonly PartSeries[]> {
  if (value.type !== 'matrix') throw new TypeError(`a part of a range query is no ${value.type}`)
  const series: PartSeries[] = []
  for (const { labels, times, values, histograms } of value.series) {
    series.push({
      labels,
      ...(times.length !== countOf(steps) && { times: times.slice() }),
      values: values.slice(),
      ...(histograms !== undefined && (await packedHistograms(histograms, breath))),
    })
    if (breath.isDue(workOf(values.length))) await breath.breathe()
  }
  return series
}

/** Of a series and its floats, in units of work. */
const workOf = (count: number): number => SERIES_WORK + count * SAMPLE_WORK

const SERIES_WORK = 500
const SAMPLE_WORK = 2
const HISTOGRAM_WORK = 500

async function packedHistograms(histograms: readonly (Histogram | undefined)[], breath: Breath) {
  const writer = new Writer(1024)
  const ends = new Uint32Array(histograms.length)
  for (const [i, histogram] of histograms.entries()) {
    if (histogram !== undefined) encodeCanonical({ ...histogram, isFloat: true }, writer) // results may have fractions
    ends[i] = writer.length
    if (breath.isDue(HISTOGRAM_WORK)) await breath.breathe()
  }
  return { histogramEnds: ends, histograms: writer.finish() }
}

function unpacked(series: PartSeries, times: Float64Array, breath: Breath): MatrixSeries | Promise<MatrixSeries> {
  const { labels, values, histogramEnds, histograms } = series
  const plain = { labels, times: series.times ?? times, values }
  if (histogramEnds === undefined || histograms === undefined) return plain
  return unpackedHistograms(histogramEnds, histograms, breath).then((decoded) => ({ ...plain, histograms: decoded }))
}

async function unpackedHistograms(ends: Uint32Array, bytes: Uint8Array, breath: Breath) {
  const decoded: (Histogram | undefined)[] = []
  let start = 0
  for (const end of ends) {
    decoded.push(end === start ? undefined : decodeCanonical(bytes.subarray(start, end)))
    start = end
    if (breath.isDue(HISTOGRAM_WORK)) await breath.breathe()
  }
  return decoded
}

/** Bytes that a part takes in memory, about. */
export async function sizeOfPart({ series, annotations, counts }: QueryPartReply, breath: Breath): Promise<number> {
  let bytes = 1_000 + annotations.length * 500 + 2 * (counts?.seen.byteLength ?? 0)
  for (const { labels, times, values, histograms, histogramEnds } of series) {
    if (breath.isDue(SERIES_WORK)) await breath.breathe()
    bytes += 300 + values.byteLength + (times?.byteLength ?? 0) + (histograms?.length ?? 0)
    bytes += histogramEnds?.byteLength ?? 0
    for (const text of labels) bytes += 16 + 2 * text.length
  }
  return bytes
}

/** The parts, in order of time, as the answer to the whole query. */
export async function united(
  parts: readonly { readonly steps: Steps; readonly reply: QueryPartReply }[],
  query: string,
  breath: Breath,
): Promise<QueryResult> {
  const byLabels = new Map<string, MatrixSeries[]>()
  for (const { steps, reply } of parts) {
    const times = new Float64Array(countOf(steps))
    for (let i = 0; i < times.length; i++) times[i] = steps.startMs + i * steps.stepMs
    for (const one of reply.series) {
      const key = labelsKey(one.labels)
      const pieces = byLabels.get(key)
      const made = unpacked(one, times, breath)
      const piece = made instanceof Promise ? await made : made
      if (pieces === undefined) byLabels.set(key, [piece])
      else pieces.push(piece)
      if (breath.isDue(SERIES_WORK)) await breath.breathe()
    }
  }
  const whole: MatrixSeries[] = []
  for (const pieces of byLabels.values()) {
    const one = joined(pieces)
    whole.push(one)
    if (breath.isDue(workOf(one.values.length))) await breath.breathe()
  }
  const series = await sortedByLabels(whole, breath)
  const annotations = uniteAnnotations(parts.map(({ reply }) => reply.annotations))
  const texts = annotationTexts(annotations, query)
  const warnings = new Set(parts.flatMap(({ reply }) => reply.warnings))
  const counts = unitedCounts(parts.map(({ reply }) => reply.counts))
  return {
    value: { type: 'matrix', series },
    ...counts,
    warnings: [...warnings, ...texts.warnings],
    infos: texts.infos,
  }
}

function unitedCounts(parts: readonly (StepCounts | undefined)[]): { counts?: StepCounts } {
  const known = parts.filter((part) => part !== undefined)
  if (known.length < parts.length || known.length === 0) return {}
  const joinedOf = (name: 'seen' | 'read') => Float64Array.from(known.flatMap((part) => [...part[name]]))
  const heldMax = Math.max(...known.map((part) => part.heldMax))
  return { counts: { seen: joinedOf('seen'), read: joinedOf('read'), heldMax } }
}

function joined(pieces: readonly MatrixSeries[]): MatrixSeries {
  const [first] = pieces
  if (pieces.length === 1) return first!
  const count = pieces.reduce((sum, { times }) => sum + times.length, 0)
  const times = new Float64Array(count)
  const values = new Float64Array(count)
  const hasHistograms = pieces.some(({ histograms }) => histograms !== undefined)
  const histograms: (Histogram | undefined)[] = []
  let at = 0
  for (const piece of pieces) {
    times.set(piece.times, at)
    values.set(piece.values, at)
    at += piece.times.length
    if (!hasHistograms) continue
    for (let i = 0; i < piece.times.length; i++) histograms.push(piece.histograms?.[i])
  }
  const plain = { labels: first!.labels, times, values }
  return hasHistograms ? { ...plain, histograms } : plain
}
