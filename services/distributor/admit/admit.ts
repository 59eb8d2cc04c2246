// Admission: one remote_write body is walked once and becomes staged columns, or a refusal. Nothing has an effect before the walk
// has ended (ADMIT-1); a hot kernel in its callbacks: no object per float sample.
//
// Invariants
//   ADMIT-1  A malformed body stages nothing.
//   ADMIT-2  A refused series or sample never holds back an accepted one of the same body; nor does a number that is too large for what it
//       stands for, wherever it stands. What is let in fits everything behind (model/sample.ts).
//   ADMIT-3  Each (election, replica) of a body is judged once. Series of a replica that is not elected are stepped over, those that follow
//       each other without being looked up (wire/unwanted.ts); what the elections have yet to decide is staged, and taken out again
//       when they decide against it (`applyClaims`). Series of one cluster more than a tenant may have are refused as they come: nothing of
//       them is kept, and however many they are, each costs as much as any other.
import { RefusedError } from '../../../shared/base/errors.ts'
import { showDuration } from '../../../shared/config/units.ts'
import { electionKey } from '../../../shared/contracts/elections.ts'
import {
  canonical,
  echo,
  orderLabels,
  type Refusal,
  refusal,
  sorted,
  without,
} from '../../../shared/model/label-rules.ts'
import { formatLabels, type Labels, labelOf, METRIC_NAME } from '../../../shared/model/labels.ts'
import { isStorableTime, SAMPLE_TIME_MS_MAX } from '../../../shared/model/sample.ts'
import { seriesHashOf } from '../../../shared/ring/series-hash.ts'
import { decodeHistogram, encodeCanonical } from '../../../shared/wire/histogram.ts'
import { decodeLabels } from '../../../shared/wire/label-region.ts'
import { readWriteV1, readWriteV2 } from '../../../shared/wire/remote-write.ts'
import { createDecompressor } from '../../../shared/wire/snappy.ts'
import { type UnwantedLabels, unwantedLabels } from '../../../shared/wire/unwanted.ts'
import { Writer } from '../../../shared/wire/varint.ts'
import type { SeriesFault, WriteSink } from '../../../shared/wire/write-sink.ts'
import type { DistributorConfig } from '../config.ts'
import type { Claim, ElectionName } from '../ha/election.ts'
import type { HaLabels } from '../ha/ha-labels.ts'
import { type Dictionary, NONE } from '../log/dictionary.ts'
import type { Staged } from './staged.ts'

export interface AdmitContext {
  readonly dictionary: Dictionary
  readonly tenant: string
  readonly config: DistributorConfig
  readonly nowMs: number
  /** How long the tenant keeps samples; Infinity: for ever. What is older would be removed as soon as it is in a block. */
  readonly keepMs: number
  readonly partitionOf: (seriesHash: number) => number
  readonly haLabels: HaLabels
  readonly elections: {
    mayClaim(name: ElectionName): boolean
    claim(name: ElectionName, replica: string): Claim
    judge(claim: Claim): void
  }
}

/** Begins each label of a series in remote write 1.0. */
const LABEL_TAG = 0x0a

const decompressor = createDecompressor()
const canonicalWriter = new Writer(1024)

/** Decompresses and walks a body into `staged`. Throws RefusedError when the body as a whole is malformed. */
export function admit(protocol: 1 | 2, body: Uint8Array, staged: Staged, context: AdmitContext): void {
  const bytes = decompressor.decompress(body, context.config.decodedBytesMax)
  const sink = new Admission(staged, context)
  if (protocol === 1) readWriteV1(bytes, sink)
  else readWriteV2(bytes, sink)
}

/** Takes out of `staged` what settled claims leave out, in one pass: everything, or what lies behind a guard. */
export function applyClaims(settled: ReadonlySet<Claim>, staged: Staged, { dictionary, config }: AdmitContext): void {
  const claimOf = (ref: number): Claim | undefined => {
    const claim = staged.claims.get(dictionary.pairOf(ref))
    return claim !== undefined && settled.has(claim) ? claim : undefined
  }
  const refused = new Map<Claim, number>()
  staged.remove((ref, time, kind) => {
    const claim = claimOf(ref)
    if (claim === undefined || (claim.verdict === 'take' && time >= claim.floorMs)) return false
    if (claim.verdict !== 'refuse') claim.dropped[kind]++
    else if (kind !== 'exemplars') refused.set(claim, (refused.get(claim) ?? 0) + 1)
    return true
  })
  staged.newRefs = staged.newRefs.filter((ref) => {
    if ((claimOf(ref)?.verdict ?? 'take') === 'take') return true
    dictionary.counted[ref] = 0
    return false
  })
  for (const [{ election }, samples] of refused) staged.refuse(tooManyClusters(election.cluster, config), samples)
}

function tooManyClusters(cluster: string, { haClustersMax }: DistributorConfig): Refusal {
  const text = `too many HA clusters (limit: ${haClustersMax}), cluster "${echo(cluster)}" is one more`
  return refusal('too-many-ha-clusters', 'too_many_ha_clusters', text, 'ha-clusters-max')
}

class Admission implements WriteSink {
  private readonly staged: Staged
  private readonly context: AdmitContext
  private readonly dictionary: Dictionary
  private readonly tenant: number
  private readonly timeMax: number
  private readonly timeMin: number
  /** Series that follow with the labels of the claim just dropped are stepped over before they are looked up (ADMIT-3). */
  unwanted: UnwantedLabels | undefined
  private previous = NONE
  private ref = NONE
  /** Of the last series that was recognised before its labels were walked: where it starts, and its ref. */
  private knownStart = -1
  private knownRef = NONE
  /** Of the series being told: its claim, and the times that need no second look. */
  private claim: Claim | undefined
  private floor: number
  private ceiling: number
  /** Why the series being told is left out: its samples are counted. */
  private refusedAs: Refusal | undefined
  private slotWords: Uint32Array = new Uint32Array(2)
  private readonly keepsStarts: boolean

  constructor(staged: Staged, context: AdmitContext) {
    this.staged = staged
    this.context = context
    this.dictionary = context.dictionary
    this.tenant = context.dictionary.intern(context.tenant)
    this.keepsStarts = context.config.startTimestamps
    const { nowMs, config } = context
    this.timeMax = Math.min(nowMs + config.futureMs, SAMPLE_TIME_MS_MAX)
    const pastMs = config.pastMs > 0 ? config.pastMs : Number.POSITIVE_INFINITY
    this.timeMin = Math.max(nowMs - Math.min(pastMs, context.keepMs), -SAMPLE_TIME_MS_MAX)
    this.floor = this.timeMin
    this.ceiling = this.timeMax
  }

  /** Most series follow the one that they followed before: comparing their bytes is cheaper than walking the labels. */
  knownEnd(bytes: Uint8Array, start: number, end: number): number {
    const ref = this.dictionary.follower(this.tenant, bytes, start, end, this.previous)
    if (ref === NONE) return -1
    const labelsEnd = start + this.dictionary.lengthOf(ref)
    if (labelsEnd < end && bytes[labelsEnd] === LABEL_TAG) return -1 // it has more labels: another series
    this.knownStart = start
    this.knownRef = ref
    return labelsEnd
  }

  series(labels: Uint8Array, start: number, end: number): boolean {
    this.refusedAs = undefined
    this.unwanted = undefined
    // A region put together elsewhere starts at 0, where no series of a body does.
    let ref =
      start === this.knownStart ? this.knownRef : this.dictionary.find(this.tenant, labels, start, end, this.previous)
    if (ref === NONE) ref = this.newSeries(labels, start, end)
    else this.dictionary.used[ref] = 1
    this.ref = ref
    if (ref === NONE) return true
    this.previous = ref
    if (this.dictionary.elections[ref] !== 0) return this.enter(ref)
    if (this.claim !== undefined) this.leaveClaim()
    return true
  }

  refused({ kind, text }: SeriesFault, samples: number): void {
    const { id, reason } = SERIES_FAULTS[kind]
    this.staged.refuse(refusal(id, reason, text), samples)
  }

  skipped(floats: number, histograms: number, exemplars: number): void {
    const { dropped } = this.claim!
    dropped.samples += floats
    dropped.histograms += histograms
    dropped.exemplars += exemplars
  }

  float(time: number, slot: Float64Array, startTime: number): void {
    const isPlain = this.ref !== NONE && time <= this.ceiling && time >= this.floor
    if (!isPlain && !this.isTaken(time, 'samples')) return
    this.staged.addFloat(this.ref, time, this.wordsOf(slot))
    if (startTime !== 0 && this.keeps(startTime, time)) this.staged.setStart(startTime)
  }

  histogram(time: number, bytes: Uint8Array, start: number, end: number, _version: 1 | 2, startTime: number): void {
    const isPlain = this.ref !== NONE && time <= this.ceiling && time >= this.floor
    if (!isPlain && !this.isTaken(time, 'histograms')) return
    if (this.claim !== undefined) this.claim.newestMs = Math.max(this.claim.newestMs, time)
    const sizeMax = this.context.config.histogramBytesMax
    if (end - start > sizeMax) {
      const text = `native histogram too large (actual: ${end - start} bytes, limit: ${sizeMax}) series: ${this.seriesText()}`
      return this.staged.refuse(refusal('histogram-too-large', 'histogram_too_large', text, 'histogram-bytes-max'))
    }
    try {
      canonicalWriter.reset()
      encodeCanonical(decodeHistogram(bytes, start, end).histogram, canonicalWriter)
      const kept = this.keeps(startTime, time) ? startTime : 0
      this.staged.histograms.push({ ref: this.ref, time, canonical: canonicalWriter.finish(), startTime: kept })
    } catch (error) {
      if (!(error instanceof RefusedError) || error.code !== 'err-carillon-histogram-invalid') throw error
      const text = `${error.message} series: ${this.seriesText()}`
      this.staged.refuse(refusal('histogram-invalid', 'histogram_invalid', text))
    }
  }

  exemplar(time: number, slot: Float64Array, labels: Uint8Array, start: number, end: number): void {
    if (this.ref === NONE) return
    if (!isStorableTime(time)) return this.staged.leaveOut('exemplars', 'time')
    const names = labelsOrNone(labels, start, end)
    if (names === undefined) return this.staged.leaveOut('exemplars', 'label_invalid')
    if (names.join('').length > EXEMPLAR_LABELS_MAX) return this.staged.leaveOut('exemplars', 'labels_too_long')
    const value = new Float64Array(1)
    value[0] = slot[0]!
    this.staged.exemplars.push({ ref: this.ref, time, value, labels: sorted(names) })
  }

  exemplarRefused(): void {
    if (this.ref !== NONE) this.staged.leaveOut('exemplars', 'references')
  }

  metadata(name: string, type: string, help: string, unit: string): void {
    const max = this.context.config.metadataBytesMax
    if (name === '') return this.staged.leaveOut('metadata', 'missing_metric_name')
    if (Buffer.byteLength(name) > max) return this.staged.leaveOut('metadata', 'metric_name_too_long')
    if (Buffer.byteLength(unit) > max) return this.staged.leaveOut('metadata', 'unit_too_long')
    this.staged.metadata.push({ tenant: this.context.tenant, metric: name, type, help: cutTo(help, max), unit })
  }

  seriesEnd(): void {
    const { claim, staged } = this
    if (claim === undefined || staged.count === 0) return
    const newestMs = staged.times[staged.count - 1]! // of this series or of one before, and not refused either way
    if (newestMs > claim.newestMs && staged.refs[staged.count - 1] === this.ref) claim.newestMs = newestMs
  }

  /** Chunks cannot hold start times that are out of this world (tsdb/chunk/starts.ts). */
  private keeps(startTime: number, time: number): boolean {
    return this.keepsStarts && isStorableTime(startTime) && isStorableTime(time)
  }

  /** A series of an HA pair: false steps over it (ADMIT-3). */
  private enter(ref: number): boolean {
    const { dictionary } = this
    const pair = dictionary.pairOf(ref)
    let claim = this.staged.claims.get(pair)
    if (claim === undefined) {
      const { elections, config } = this.context
      const name = dictionary.electionOf(dictionary.elections[ref]!)
      if (!elections.mayClaim(name)) {
        this.refusedAs = tooManyClusters(name.cluster, config)
        this.ref = NONE
        return true
      }
      claim = elections.claim(name, dictionary.strings[dictionary.replicas[ref]!]!)
      this.staged.claims.set(pair, claim)
      elections.judge(claim)
    }
    this.claim = claim
    if (claim.verdict === 'drop') {
      this.unwanted = claim.unwanted ??= this.unwantedOf(claim)
      return false
    }
    this.floor = Math.max(this.timeMin, claim.floorMs)
    this.ceiling = Math.min(this.timeMax, claim.ceilingMs)
    if (dictionary.counted[ref] === 0) {
      dictionary.counted[ref] = 1
      this.staged.newRefs.push(ref)
    }
    return true
  }

  private unwantedOf({ election, replica }: Claim): UnwantedLabels {
    const names = this.context.haLabels
    return unwantedLabels([names.cluster, election.cluster], [names.replica, replica])
  }

  private leaveClaim(): void {
    this.claim = undefined
    this.floor = this.timeMin
    this.ceiling = this.timeMax
  }

  /** A sample that wants a second look: true when it is staged nevertheless. */
  private isTaken(time: number, kind: 'samples' | 'histograms'): boolean {
    const { claim } = this
    if (this.ref === NONE || claim === undefined || time > this.timeMax || time < this.timeMin) {
      this.refuseSample(time)
      return false
    }
    if (time < claim.floorMs) {
      claim.dropped[kind]++
      return false
    }
    claim.newestMs = Math.max(claim.newestMs, time) // beyond what the election covers yet
    return true
  }

  /** The reader tells all values through one slot. */
  private wordsOf(slot: Float64Array): Uint32Array {
    if (this.slotWords.buffer !== slot.buffer) this.slotWords = new Uint32Array(slot.buffer)
    return this.slotWords
  }

  private newSeries(labels: Uint8Array, start: number, end: number): number {
    let came: Labels
    try {
      came = decodeLabels(labels, start, end)
    } catch (error) {
      if (!(error instanceof RefusedError)) throw error
      this.refusedAs = refusal('label-invalid-utf8', 'label_invalid', error.message)
      return NONE
    }
    const { labels: decoded, refused } = orderLabels(came, this.context.config)
    this.refusedAs = refused
    if (refused) return NONE
    const names = this.context.haLabels
    const cluster = names.cluster === '' ? '' : labelOf(decoded, names.cluster)
    const replica = names.replica === '' ? '' : labelOf(decoded, names.replica)
    const isOfPair = cluster !== '' && replica !== ''
    const { tenant, elections, config } = this.context
    const election = isOfPair ? { tenant, cluster, key: electionKey(tenant, cluster) } : undefined
    if (election !== undefined && !elections.mayClaim(election)) {
      this.refusedAs = tooManyClusters(cluster, config)
      return NONE
    }
    const stored = canonical(isOfPair ? without(decoded, names.replica) : decoded)
    const hash = seriesHashOf(tenant, stored)
    const series = { labels: stored, hash, partition: this.context.partitionOf(hash) }
    const ref = this.dictionary.add(this.tenant, { bytes: labels, start, end }, series, this.previous)
    this.dictionary.used[ref] = 1
    if (election !== undefined) this.dictionary.joinElection(ref, election, replica)
    else this.staged.newRefs.push(ref)
    return ref
  }

  private refuseSample(time: number): void {
    if (this.refusedAs) return this.staged.refuse(this.refusedAs)
    const metric = echo(this.seriesText())
    if (time > this.timeMax) {
      const text = `timestamp too new: ${time} metric: "${metric}"`
      const flag = isStorableTime(time) ? 'future' : undefined
      return this.staged.refuse(refusal('too-far-in-future', 'too_far_in_future', text, flag))
    }
    const { nowMs, keepMs } = this.context
    const isGone = isStorableTime(time) && time < nowMs - keepMs
    const kept = isGone ? `; the tenant keeps samples for ${showDuration(keepMs)}` : ''
    const flag = isStorableTime(time) && !isGone ? 'past' : undefined
    const text = `timestamp too old: ${time} metric: "${metric}"${kept}`
    this.staged.refuse(refusal('sample-too-old', 'greater_than_max_sample_age', text, flag))
  }

  private seriesText(): string {
    return this.ref === NONE ? METRIC_NAME : echo(formatLabels(this.dictionary.labelsOf(this.ref)))
  }
}

function labelsOrNone(labels: Uint8Array, start: number, end: number): string[] | undefined {
  try {
    return decodeLabels(labels, start, end)
  } catch (error) {
    if (error instanceof RefusedError) return undefined // a text is not UTF-8
    throw error
  }
}

const SERIES_FAULTS = {
  references: { id: 'symbol-reference', reason: 'symbol_reference' },
  'no-samples': { id: 'series-without-samples', reason: 'series_without_samples' },
} as const

/** Prometheus' limit on the label set of an exemplar, characters of names and values together. */
const EXEMPLAR_LABELS_MAX = 128

function cutTo(text: string, bytesMax: number): string {
  if (Buffer.byteLength(text) <= bytesMax) return text
  return Buffer.from(text)
    .subarray(0, bytesMax)
    .toString()
    .replace(/\uFFFD$/, '')
}
