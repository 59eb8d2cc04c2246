// A session numbers series and label strings for one partition under one mark (LOG-1, LOG-2); a batch is what is written under it.
//
// Invariants
//   SESSION-1  Define until stored (LOG-3): a batch holds the definition of every id and string it uses whose definition is not yet known to be stored.
//   SESSION-2  A batch keeps what it was made from until it is acknowledged, so that it can be encoded again under a newer mark (LOG-4, LOG-5).
import { hex } from '../../../shared/base/random.ts'
import type { Mark } from '../../../shared/contracts/log.ts'
import type { Labels } from '../../../shared/model/labels.ts'
import { encodeLogBatch } from '../../../shared/wire/log-batch.ts'
import { StartsColumn } from '../../../shared/wire/starts-column.ts'
import { Writer } from '../../../shared/wire/varint.ts'
import type { Dictionary } from './dictionary.ts'

let sessionOrdinals = 0
let batchOrdinals = 0

export class Session {
  /** Unique in this process; 0 is no session. */
  readonly ordinal = ++sessionOrdinals
  readonly id: Uint8Array
  readonly idText: string
  readonly mark: Mark
  readonly dictionary: Dictionary
  /** Whether the log may lack what was stored under it: nothing more is written under it. */
  isOver = false
  counter = 0
  lastCounter = 0
  lastSeq = 0
  private seriesCount = 0
  private stringCount = 0
  /** By string number of the dictionary: number in this session + 1 (0: none yet), whether stored, the batch that defines it. */
  private stringIds = new Uint32Array(1024)
  private stringStored = new Uint8Array(1024)
  private stringDefinedIn = new Uint32Array(1024)

  constructor(id: Uint8Array, mark: Mark, dictionary: Dictionary) {
    this.id = id
    this.idText = hex(id)
    this.mark = mark
    this.dictionary = dictionary
  }

  /** The series' id in this session; puts its definition into the batch where SESSION-1 wants it. */
  idOf(ref: number, batch: Batch): number {
    const { dictionary } = this
    if (dictionary.sessions[ref] !== this.ordinal) {
      dictionary.sessions[ref] = this.ordinal
      dictionary.ids[ref] = this.seriesCount++
      dictionary.stored[ref] = 0
      dictionary.definedIn[ref] = 0
    }
    const id = dictionary.ids[ref]!
    if (dictionary.stored[ref] === 1 || dictionary.definedIn[ref] === batch.ordinal) return id
    if (batch.isForgetful && dictionary.definedIn[ref] !== 0) return id
    dictionary.definedIn[ref] = batch.ordinal
    this.define(ref, id, batch)
    return id
  }

  /** What the batch defined is stored: the numbers alone are enough from now on. */
  markStored(batch: Batch, seq: number): void {
    const { sessions, ids, stored } = this.dictionary
    for (let i = 0; i < batch.definedRefs.length; i++) {
      const ref = batch.definedRefs[i]!
      if (sessions[ref] === this.ordinal && ids[ref] === batch.definedIds[i]) stored[ref] = 1
    }
    for (const string of batch.definedStrings) this.stringStored[string] = 1
    if (batch.counter > this.lastCounter) {
      this.lastCounter = batch.counter
      this.lastSeq = seq
    }
  }

  private define(ref: number, id: number, batch: Batch): void {
    const { dictionary } = this
    batch.definedRefs.push(ref)
    batch.definedIds.push(id)
    const tenant = this.stringOf(dictionary.tenants[ref]!, batch)
    const numbers: number[] = []
    dictionary.eachLabelRef(ref, (string) => numbers.push(this.stringOf(string, batch)))
    const { definitions } = batch
    definitions.uvarint(id)
    definitions.uvarint(tenant)
    definitions.uvarint(numbers.length / 2)
    for (const number of numbers) definitions.uvarint(number)
  }

  private stringOf(string: number, batch: Batch): number {
    if (string >= this.stringIds.length) this.growStrings(string)
    if (this.stringIds[string] === 0) this.stringIds[string] = ++this.stringCount
    const number = this.stringIds[string]! - 1
    if (this.stringStored[string] === 1 || this.stringDefinedIn[string] === batch.ordinal) return number
    this.stringDefinedIn[string] = batch.ordinal
    batch.definedStrings.push(string)
    batch.strings.uvarint(number)
    batch.strings.text(this.dictionary.strings[string]!)
    return number
  }

  private growStrings(string: number): void {
    const capacity = Math.max(this.stringIds.length * 2, string + 1)
    const ids = new Uint32Array(capacity)
    ids.set(this.stringIds)
    this.stringIds = ids
    const stored = new Uint8Array(capacity)
    stored.set(this.stringStored)
    this.stringStored = stored
    const definedIn = new Uint32Array(capacity)
    definedIn.set(this.stringDefinedIn)
    this.stringDefinedIn = definedIn
  }
}

export interface StagedHistogram {
  readonly ref: number
  readonly time: number
  readonly canonical: Uint8Array
  /** 0: unknown. */
  readonly startTime: number
}

export interface StagedExemplar {
  readonly ref: number
  readonly time: number
  /** One element: the bits survive. */
  readonly value: Float64Array
  readonly labels: Labels
}

export interface StagedMetadata {
  readonly tenant: string
  readonly metric: string
  readonly type: string
  readonly help: string
  readonly unit: string
}

/** Samples on their way into one partition's log: as they came (refs), and encoded under a session. */
export class Batch {
  ordinal = ++batchOrdinals
  counter = 0
  count = 0
  refs = new Uint32Array(4096)
  times = new Float64Array(4096)
  /** Low and high word of each value. */
  words = new Uint32Array(8192)
  /** Made by the first float that has a start time: of each float, 0 where it is unknown. */
  private startTimes: Float64Array | undefined
  readonly histograms: StagedHistogram[] = []
  readonly exemplars: StagedExemplar[] = []
  readonly metadata: StagedMetadata[] = []

  readonly strings = new Writer(4096)
  readonly definitions = new Writer(4096)
  /** Series that this batch defines, and the ids it gives them. */
  definedRefs: number[] = []
  definedIds: number[] = []
  definedStrings: number[] = []
  /** Only in the simulation's counter-proof: leaves definitions out once they were sent, stored or not. */
  readonly isForgetful: boolean
  private readonly idColumn = new Writer(4096)
  private readonly timeColumn = new Writer(4096)
  private readonly startColumn = new StartsColumn()
  private readonly histogramColumn = new Writer(256)
  private readonly histogramStartColumn = new StartsColumn()
  private readonly exemplarColumn = new Writer(256)
  private readonly metadataColumn = new Writer(256)
  private previousId = 0
  private previousTime = 0
  private session: Session

  constructor(session: Session, isForgetful = false) {
    this.session = session
    this.isForgetful = isForgetful
  }

  get under(): Session {
    return this.session
  }

  /** Bytes that the encoded batch will have, without the small header. */
  get bytes(): number {
    return (
      this.count * 8 +
      this.idColumn.length +
      this.timeColumn.length +
      this.startColumn.length +
      this.strings.length +
      this.definitions.length +
      this.histogramColumn.length +
      this.exemplarColumn.length +
      this.metadataColumn.length
    )
  }

  get isEmpty(): boolean {
    return this.count + this.histograms.length + this.exemplars.length + this.metadata.length === 0
  }

  /** Adds one float; its value is the pair `index` of `words`. `startTime` 0: unknown. */
  addFloat(ref: number, time: number, words: Uint32Array, index: number, startTime = 0): void {
    if (this.count === this.refs.length) this.grow()
    this.refs[this.count] = ref
    this.times[this.count] = time
    this.words[2 * this.count] = words[2 * index]!
    this.words[2 * this.count + 1] = words[2 * index + 1]!
    if (startTime !== 0 || this.startTimes !== undefined) {
      this.startTimes ??= new Float64Array(this.refs.length)
      this.startTimes[this.count] = startTime
    }
    this.encodeFloat(this.count++)
  }

  addHistogram(histogram: StagedHistogram): void {
    this.encodeHistogram(histogram, this.histograms.length)
    this.histograms.push(histogram)
  }

  addExemplar(exemplar: StagedExemplar): void {
    this.exemplars.push(exemplar)
    this.encodeExemplar(exemplar)
  }

  addMetadata(metadata: StagedMetadata): void {
    this.metadata.push(metadata)
    this.encodeMetadata(metadata)
  }

  /** Encodes everything again, under another session (SESSION-2). */
  restart(session: Session): void {
    this.session = session
    this.clearEncoding()
    for (let i = 0; i < this.count; i++) this.encodeFloat(i)
    for (const [index, histogram] of this.histograms.entries()) this.encodeHistogram(histogram, index)
    for (const exemplar of this.exemplars) this.encodeExemplar(exemplar)
    for (const metadata of this.metadata) this.encodeMetadata(metadata)
  }

  /** The same content as several batches of about `bytesMax` each, under the same session. */
  split(bytesMax: number): Batch[] {
    const parts: Batch[] = []
    const room = (): Batch => {
      const last = parts[parts.length - 1]
      if (last !== undefined && last.bytes < bytesMax) return last
      const next = new Batch(this.session, this.isForgetful)
      parts.push(next)
      return next
    }
    for (let i = 0; i < this.count; i++) {
      room().addFloat(this.refs[i]!, this.times[i]!, this.words, i, this.startTimes?.[i] ?? 0)
    }
    for (const histogram of this.histograms) room().addHistogram(histogram)
    for (const exemplar of this.exemplars) room().addExemplar(exemplar)
    for (const metadata of this.metadata) room().addMetadata(metadata)
    return parts
  }

  /** Makes the batch an empty one of `session`, keeping its buffers. */
  reuse(session: Session): void {
    this.session = session
    this.count = 0
    this.startTimes = undefined
    this.histograms.length = 0
    this.exemplars.length = 0
    this.metadata.length = 0
    this.clearEncoding()
  }

  /** The bytes of the message, numbered next in the session. */
  seal(): Uint8Array {
    const { session } = this
    this.counter = ++session.counter
    return encodeLogBatch({
      session: session.id,
      epoch: session.mark.number,
      nonce: session.mark.nonce,
      counter: this.counter,
      lastCounter: session.lastCounter,
      lastSeq: session.lastSeq,
      strings: this.strings.view(),
      definitions: this.definitions.view(),
      sampleCount: this.count,
      ids: this.idColumn.view(),
      times: this.timeColumn.view(),
      values: new Float64Array(this.words.buffer, 0, this.count),
      histograms: this.histogramColumn.view(),
      exemplars: this.exemplarColumn.view(),
      metadata: this.metadataColumn.view(),
      starts: this.startColumn.finish(this.count),
      histogramStarts: this.histogramStartColumn.finish(this.histograms.length),
    })
  }

  private encodeFloat(index: number): void {
    const id = this.session.idOf(this.refs[index]!, this)
    const time = this.times[index]!
    this.idColumn.zigzag(id - this.previousId)
    this.timeColumn.zigzag(time - this.previousTime)
    this.previousId = id
    this.previousTime = time
    const startTime = this.startTimes === undefined ? 0 : this.startTimes[index]!
    if (startTime !== 0) this.startColumn.put(index, startTime)
  }

  private encodeHistogram({ ref, time, canonical, startTime }: StagedHistogram, index: number): void {
    if (startTime !== 0) this.histogramStartColumn.put(index, startTime)
    this.histogramColumn.uvarint(this.session.idOf(ref, this))
    this.histogramColumn.zigzag(time)
    this.histogramColumn.uvarint(canonical.length)
    this.histogramColumn.bytes(canonical)
  }

  private encodeExemplar({ ref, time, value, labels }: StagedExemplar): void {
    const column = this.exemplarColumn
    column.uvarint(this.session.idOf(ref, this))
    column.zigzag(time)
    column.f64(value)
    column.uvarint(labels.length / 2)
    for (const text of labels) column.text(text)
  }

  private encodeMetadata(metadata: StagedMetadata): void {
    for (const text of [metadata.tenant, metadata.metric, metadata.type, metadata.help, metadata.unit]) {
      this.metadataColumn.text(text)
    }
  }

  private clearEncoding(): void {
    this.ordinal = ++batchOrdinals
    this.counter = 0
    this.previousId = 0
    this.previousTime = 0
    this.definedRefs = []
    this.definedIds = []
    this.definedStrings = []
    this.strings.reset()
    this.definitions.reset()
    this.idColumn.reset()
    this.timeColumn.reset()
    this.startColumn.reset()
    this.histogramColumn.reset()
    this.histogramStartColumn.reset()
    this.exemplarColumn.reset()
    this.metadataColumn.reset()
  }

  private grow(): void {
    const capacity = this.refs.length * 2
    const refs = new Uint32Array(capacity)
    refs.set(this.refs)
    this.refs = refs
    const times = new Float64Array(capacity)
    times.set(this.times)
    this.times = times
    const words = new Uint32Array(2 * capacity)
    words.set(this.words)
    this.words = words
    if (this.startTimes === undefined) return
    const startTimes = new Float64Array(capacity)
    startTimes.set(this.startTimes)
    this.startTimes = startTimes
  }
}
