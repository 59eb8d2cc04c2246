// Admission: one remote_write body is walked once and becomes staged columns, or a refusal. Nothing has an effect before the walk
// has ended (A1); a hot kernel in its callbacks: no object per float sample.
//
// Invariants
//   A1  A malformed body stages nothing.
//   A2  A refused series or sample never holds back an accepted one of the same body.
import { RefusedError } from '../../shared/base/errors.ts'
import { formatLabels, type Labels, METRIC_NAME } from '../../shared/model/labels.ts'
import { seriesHashOf } from '../../shared/ring/series-hash.ts'
import { decodeHistogram, encodeCanonical } from '../../shared/wire/histogram.ts'
import { decodeLabels } from '../../shared/wire/label-region.ts'
import { readWriteV1, readWriteV2 } from '../../shared/wire/remote-write.ts'
import { createDecompressor } from '../../shared/wire/snappy.ts'
import { Writer } from '../../shared/wire/varint.ts'
import type { WriteSink } from '../../shared/wire/write-sink.ts'
import type { DistributorConfig } from './config.ts'
import { type Dictionary, NONE } from './dictionary.ts'
import type { StagedExemplar, StagedHistogram, StagedMetadata } from './session.ts'
import { canonical, checkLabels, echo, type Refusal, refusal } from './validate.ts'

/** What one body brings, until it is handed to the partition writers. */
export class Staged {
  count = 0
  refs = new Uint32Array(4096)
  times = new Float64Array(4096)
  /** Low and high word of each value: bits do not survive as numbers. */
  words = new Uint32Array(8192)
  histograms: StagedHistogram[] = []
  exemplars: StagedExemplar[] = []
  metadata: StagedMetadata[] = []
  /** Series that the dictionary did not know before. */
  newRefs: number[] = []
  firstRefusal: Refusal | undefined
  /** Samples left out, by reason. */
  readonly discarded = new Map<string, number>()

  get samples(): number {
    return this.count + this.histograms.length
  }

  clear(): void {
    this.count = 0
    this.histograms = []
    this.exemplars = []
    this.metadata = []
    this.newRefs = []
    this.firstRefusal = undefined
    this.discarded.clear()
  }

  refuse(reason: Refusal, samples = 1): void {
    this.firstRefusal ??= reason
    this.discarded.set(reason.reason, (this.discarded.get(reason.reason) ?? 0) + samples)
  }

  /** The value's two words come from `words`. */
  addFloat(ref: number, time: number, words: Uint32Array): void {
    if (this.count === this.refs.length) this.grow()
    this.refs[this.count] = ref
    this.times[this.count] = time
    this.words[2 * this.count] = words[0]!
    this.words[2 * this.count + 1] = words[1]!
    this.count++
  }

  private grow(): void {
    const refs = new Uint32Array(this.refs.length * 2)
    refs.set(this.refs)
    this.refs = refs
    const times = new Float64Array(this.times.length * 2)
    times.set(this.times)
    this.times = times
    const words = new Uint32Array(this.words.length * 2)
    words.set(this.words)
    this.words = words
  }
}

export interface AdmitContext {
  readonly dictionary: Dictionary
  readonly tenant: string
  readonly config: DistributorConfig
  readonly nowMs: number
  readonly partitionOf: (seriesHash: number) => number
}

const decompressor = createDecompressor()
const canonicalWriter = new Writer(1024)

/** Decompresses and walks a body into `staged`. Throws RefusedError when the body as a whole is malformed. */
export function admit(protocol: 1 | 2, body: Uint8Array, staged: Staged, context: AdmitContext): void {
  const bytes = decompressor.decompress(body, context.config.decodedBytesMax)
  const sink = new Admission(staged, context)
  if (protocol === 1) readWriteV1(bytes, sink)
  else readWriteV2(bytes, sink)
}

class Admission implements WriteSink {
  private readonly staged: Staged
  private readonly context: AdmitContext
  private readonly dictionary: Dictionary
  private readonly tenant: number
  private readonly timeMax: number
  private readonly timeMin: number
  private previous = NONE
  private ref = NONE
  /** Why the series being told is left out: its samples are counted. */
  private refused: Refusal | undefined
  private slotWords: Uint32Array = new Uint32Array(2)

  constructor(staged: Staged, context: AdmitContext) {
    this.staged = staged
    this.context = context
    this.dictionary = context.dictionary
    this.tenant = context.dictionary.intern(context.tenant)
    this.timeMax = context.nowMs + context.config.futureMs
    this.timeMin = context.config.pastMs > 0 ? context.nowMs - context.config.pastMs : Number.NEGATIVE_INFINITY
  }

  series(labels: Uint8Array, start: number, end: number): boolean {
    this.refused = undefined
    let ref = this.dictionary.find(this.tenant, labels, start, end, this.previous)
    if (ref === NONE) ref = this.newSeries(labels, start, end)
    else this.dictionary.used[ref] = 1
    this.ref = ref
    if (ref !== NONE) this.previous = ref
    return true
  }

  float(time: number, slot: Float64Array, _startTime: number): void {
    if (this.ref === NONE || time > this.timeMax || time < this.timeMin) this.refuseSample(time)
    else this.staged.addFloat(this.ref, time, this.wordsOf(slot))
  }

  histogram(time: number, bytes: Uint8Array, start: number, end: number, _version: 1 | 2): void {
    if (this.ref === NONE || time > this.timeMax || time < this.timeMin) return this.refuseSample(time)
    const sizeMax = this.context.config.histogramBytesMax
    if (end - start > sizeMax) {
      const text = `native histogram too large (actual: ${end - start} bytes, limit: ${sizeMax}) series: ${this.seriesText()}`
      return this.staged.refuse(refusal('histogram-too-large', 'histogram_too_large', text, 'histogram-bytes-max'))
    }
    try {
      canonicalWriter.reset()
      encodeCanonical(decodeHistogram(bytes, start, end).histogram, canonicalWriter)
      this.staged.histograms.push({ ref: this.ref, time, canonical: canonicalWriter.finish() })
    } catch (error) {
      if (!(error instanceof RefusedError) || error.code !== 'err-carillon-histogram-invalid') throw error
      const text = `${error.message} series: ${this.seriesText()}`
      this.staged.refuse(refusal('histogram-invalid', 'histogram_invalid', text))
    }
  }

  exemplar(time: number, slot: Float64Array, labels: Uint8Array, start: number, end: number): void {
    if (this.ref === NONE) return
    const names = decodeLabels(labels, start, end)
    if (names.join('').length > EXEMPLAR_LABELS_MAX) {
      const text = `exemplar labels are longer than ${EXEMPLAR_LABELS_MAX} characters, series: ${this.seriesText()}`
      this.staged.firstRefusal ??= refusal('exemplar-labels-too-long', 'exemplar_labels_too_long', text)
      return
    }
    const value = new Float64Array(1)
    value[0] = slot[0]!
    this.staged.exemplars.push({ ref: this.ref, time, value, labels: names })
  }

  metadata(name: string, type: string, help: string, unit: string): void {
    const max = this.context.config.metadataBytesMax
    if (name === '') {
      this.staged.firstRefusal ??= refusal('metadata-missing-metric-name', 'metadata', 'metadata missing metric name')
      return
    }
    if (Buffer.byteLength(name) > max || Buffer.byteLength(unit) > max) {
      const text = `metadata of metric "${echo(name)}" has a name or unit longer than ${max} bytes`
      this.staged.firstRefusal ??= refusal('metadata-too-long', 'metadata', text, 'metadata-bytes-max')
      return
    }
    this.staged.metadata.push({ tenant: this.context.tenant, metric: name, type, help: cutTo(help, max), unit })
  }

  seriesEnd(): void {}

  /** The reader tells all values through one slot. */
  private wordsOf(slot: Float64Array): Uint32Array {
    if (this.slotWords.buffer !== slot.buffer) this.slotWords = new Uint32Array(slot.buffer)
    return this.slotWords
  }

  private newSeries(labels: Uint8Array, start: number, end: number): number {
    let decoded: Labels
    try {
      decoded = decodeLabels(labels, start, end)
    } catch (error) {
      if (!(error instanceof RefusedError)) throw error
      this.refused = refusal('label-invalid-utf8', 'label_invalid', error.message)
      return NONE
    }
    this.refused = checkLabels(decoded, this.context.config)
    if (this.refused) return NONE
    const stored = canonical(decoded)
    const hash = seriesHashOf(this.context.tenant, stored)
    const series = { labels: stored, hash, partition: this.context.partitionOf(hash) }
    const ref = this.dictionary.add(this.tenant, { bytes: labels, start, end }, series, this.previous)
    this.dictionary.used[ref] = 1
    this.staged.newRefs.push(ref)
    return ref
  }

  private refuseSample(time: number): void {
    if (this.refused) return this.staged.refuse(this.refused)
    const metric = echo(this.seriesText())
    if (time > this.timeMax) {
      const text = `timestamp too new: ${time} metric: "${metric}"`
      return this.staged.refuse(refusal('too-far-in-future', 'too_far_in_future', text, 'future'))
    }
    const text = `timestamp too old: ${time} metric: "${metric}"`
    this.staged.refuse(refusal('sample-too-old', 'greater_than_max_sample_age', text, 'past'))
  }

  private seriesText(): string {
    return this.ref === NONE ? METRIC_NAME : echo(formatLabels(this.dictionary.labelsOf(this.ref)))
  }
}

/** Prometheus' limit on the label set of an exemplar, characters of names and values together. */
const EXEMPLAR_LABELS_MAX = 128

function cutTo(text: string, bytesMax: number): string {
  if (Buffer.byteLength(text) <= bytesMax) return text
  return Buffer.from(text)
    .subarray(0, bytesMax)
    .toString()
    .replace(/\uFFFD$/, '')
}
