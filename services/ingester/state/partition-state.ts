// The state of one partition: heads per tenant, dictionaries, the current mark. Applying is a pure function of the log (LOG-9): no clock,
// no configuration, no chance, nothing awaits. A hot kernel in `applyFloats`.
//
// Invariants
//   STATE-1  Equal logs give equal states, whatever was delivered twice (LOG-9, LOG-11).
//   STATE-2  Dictionaries of the current and the previous epoch are kept; a batch tagged older is skipped by its tag.
//   STATE-3  What cannot be read or kept is reported as damage, never passed over in silence (LOG-10), and takes no neighbours with it.
//   STATE-4  A series is held as long as samples or exemplars of it are, or a session of STATE-2 names it; soon after that it is forgotten, and strings
//       that no series uses with it.
//   STATE-5  Samples that stand on different sides of a mark, of a fence, of a message that may have been one, or of the end of a gap, stand in
//       different parts (DELETE-7): wherever a deletion stands in the log, a part lies wholly before it or wholly behind it. A gap that a whole owner has
//       filled cuts where it says, and nowhere else: both hold the same parts then.
//   STATE-6  A state that was given back is freed once nobody reads it, and not before: its strings' numbers are used again. Nobody begins to read it,
//       lists or writes what was read of it: whoever works on it over an await asks behind each (use.ts).
//   STATE-7  Where a mark may have been lost, or cannot be read, nobody knows of which segment that is what comes behind: none that was flushed, so that it
//       is held until its segment is flushed. Twice in blocks is once in answers (LOG-11).
import { CorruptError, RefusedError, textOf } from '../../../shared/base/errors.ts'
import { hex } from '../../../shared/base/random.ts'
import { isLeftOut } from '../../../shared/blocks/left-out.ts'
import { decodeDelete } from '../../../shared/contracts/deletes.ts'
import { decodeMark, type Mark } from '../../../shared/contracts/log.ts'
import type { SegmentCut } from '../../../shared/contracts/read.ts'
import { isStorableHistogram } from '../../../shared/model/histogram.ts'
import { isStorableTime, SAMPLE_TIME_MS_MAX } from '../../../shared/model/sample.ts'
import { wordsOf } from '../../../shared/tsdb/chunk/xor.ts'
import { Head } from '../../../shared/tsdb/head/head.ts'
import { decodeCanonical } from '../../../shared/wire/histogram.ts'
import { decodeLogBatch, type LogBatch } from '../../../shared/wire/log-batch.ts'
import { PlacesReader } from '../../../shared/wire/places-column.ts'
import { StartsReader } from '../../../shared/wire/starts-column.ts'
import { Reader } from '../../../shared/wire/varint.ts'
import { Cuts, type Hole } from './cuts.ts'
import { DAMAGES_MAX, type DamageKind } from './damage.ts'
import { forgetDead } from './forgetting.ts'
import { HeldMetadata, placeOf, type Told } from './held-metadata.ts'
import type { PartitionStateOptions } from './partition-state-options.ts'
import { SessionDictionary } from './session-dictionary.ts'
import { Unstorable } from './unstorable.ts'
import { Use } from './use.ts'

export interface AppliedMark extends Mark {
  readonly seq: number
  /** It was not met: something stands behind it that must. */
  readonly isAdopted?: true
}

export class PartitionState {
  mark: AppliedMark | undefined
  /** Where the newest message on the mark subject stands, and whether it is a mark at all; 0: there is none. */
  markSubjectSeq = 0
  isMarkReadable = true
  /** Bytes of batches since the mark, without definitions. */
  segmentBytes = 0
  samplesApplied = 0
  /** Segments up to this one were dropped: their samples are in blocks, and what still comes of them is not stored. */
  droppedUpTo = 0
  readonly heads = new Map<string, Head>()
  readonly metadata = new HeldMetadata()
  private readonly cuts = new Cuts()
  /** Where reading began: what lies before it was not seen. */
  private firstSeq = 0
  private readonly sessions = new Map<string, SessionDictionary>()
  /** The marks of the segments held, rising, and the one before. */
  private marks: { readonly seq: number; readonly number: number }[] = []
  /** The highest sequence applied: what comes again stands before it. */
  private seqMax = 0
  private readonly options: PartitionStateOptions
  private readonly unstorable = new Unstorable()
  /** STATE-6: when it is over nothing is applied any more, and the strings of all heads are given back. */
  readonly use = new Use(() => {
    for (const head of this.heads.values()) head.dispose()
    this.options.strings.sweep()
  })

  constructor(options: PartitionStateOptions) {
    this.options = options
  }

  private get incarnation(): string {
    return this.options.incarnation?.() ?? ''
  }

  get segment(): number {
    return this.mark?.number ?? 0
  }

  /** Of heads and dictionaries, as estimated. */
  get bytes(): number {
    return [...this.heads.values(), ...this.sessions.values()].reduce((sum, { bytes }) => sum + bytes, 0)
  }

  head(tenant: string): Head {
    let head = this.heads.get(tenant)
    if (!head) {
      head = new Head(this.options.strings, { incarnation: this.incarnation })
      this.heads.set(tenant, head)
      this.cuts.apply(tenant, head)
    }
    return head
  }

  /** Segments that any head holds samples of, rising. */
  segments(): number[] {
    const segments = new Set<number>()
    for (const head of this.heads.values()) for (const segment of head.segments()) segments.add(segment)
    return [...segments].sort((a, b) => a - b)
  }

  /** Frees the memory of all segments up to this one, it included, once their samples are read from blocks. The one door for it; a number
   *  that was reached before changes nothing. */
  dropSegments(upTo: number): void {
    if (upTo <= this.droppedUpTo || this.use.isOver) return
    this.droppedUpTo = upTo
    for (const head of this.heads.values()) head.dropSegments(upTo)
    this.cuts.drop(upTo)
    this.marks = this.marks.filter(({ number }, i) => number > upTo || i === this.marks.length - 1)
    forgetDead(this, this.sessions.values(), this.options.keepsSilent === true)
    this.options.strings.sweep()
  }

  /** What a segment holds of each tenant, as digests, by name. */
  digests(segment: number): [tenant: string, digest: string][] {
    return this.tenantsIn(segment).map((tenant) => [tenant, this.heads.get(tenant)!.digest(segment)])
  }

  /** The digest of one segment over all tenants, for those who compare owners. */
  digest(segment: number): string {
    const held = this.digests(segment)
    return held.length === 1 ? held[0]![1] : held.map(([tenant, digest]) => `${tenant}:${digest}`).join(',')
  }

  applyMark(seq: number, payload: Uint8Array): void {
    this.firstSeq ||= seq
    this.markSubjectSeq = seq
    let mark: Mark
    try {
      mark = decodeMark(payload)
      this.isMarkReadable = true
    } catch (error) {
      if (!(error instanceof RefusedError)) throw error
      this.isMarkReadable = false
      this.leaveFlushed(seq)
      return this.damaged(error.code === 'newer-version' ? 'newer-version' : 'bad-mark', seq, error.message)
    }
    const isAdopted = this.mark?.isAdopted === true && mark.number === this.mark.number
    if (this.mark !== undefined && !isAdopted && mark.number !== this.mark.number + 1) {
      const text = `mark ${mark.number} follows mark ${this.mark.number}`
      if (mark.number <= this.mark.number) return this.damaged('bad-mark', seq, text)
      this.damagedFrom(this.mark.number + 1, mark.number - 1, { kind: 'bad-mark', seq, text })
    }
    this.mark = { ...mark, seq }
    this.marks.push({ seq, number: mark.number })
    this.cut(mark.number, seq)
    this.cuts.noteMark(mark.number)
    this.segmentBytes = 0
    for (const [session, dictionary] of this.sessions) {
      if (dictionary.epoch < mark.number - 1) this.sessions.delete(session) // STATE-2
    }
  }

  applyBatch(seq: number, payload: Uint8Array): void {
    this.firstSeq ||= seq
    let batch: LogBatch
    try {
      batch = decodeLogBatch(payload)
    } catch (error) {
      if (!(error instanceof CorruptError)) throw error
      return this.damaged(error.code === 'newer-version' ? 'newer-version' : 'bad-checksum', seq, error.message)
    }
    if (this.mark === undefined || batch.epoch > this.mark.number) {
      this.adoptMark(seq, batch)
    } else if (batch.epoch < this.mark.number - 1 && !this.mark.isAdopted) {
      return this.options.onSkipped(seq, `batch of epoch ${batch.epoch} lies behind mark ${this.mark.number}`)
    }
    try {
      this.applyColumns(seq, batch)
    } catch (error) {
      if (!(error instanceof CorruptError)) throw error
      this.damaged('bad-checksum', seq, textOf(error))
    }
  }

  /** A fence: what lies before it can be told from what lies behind. One that cannot be read may have been any tenant's (DELETE-7). */
  applyDelete(seq: number, payload: Uint8Array): void {
    this.firstSeq ||= seq
    try {
      this.cut(this.segmentAt(seq), seq, decodeDelete(payload).tenant)
    } catch (error) {
      if (!(error instanceof RefusedError)) throw error
      this.options.onSkipped(seq, `a fence of a deletion that cannot be read: ${error.message}`)
      if (!isLeftOut('hole-cut')) this.cut(this.segmentAt(seq), seq)
    }
    this.seqMax = Math.max(this.seqMax, seq)
  }

  /** What older versions wrote and nobody goes by. */
  passOver(seq: number): void {
    this.firstSeq ||= seq
    this.seqMax = Math.max(this.seqMax, seq)
  }

  /** Something of the log is missing before this sequence, perhaps a fence (DELETE-7), perhaps a mark (STATE-7). */
  noteHole(seq: number): void {
    this.leaveFlushed(seq)
    if (!isLeftOut('hole-cut')) this.cuts.add({ segment: this.segment, seq, isHole: true }, this.heads)
  }

  /** It was filled from an owner to which nothing is missing, and which is cut in these places. */
  closeHole(hole: Hole, told: readonly SegmentCut[]): void {
    this.cuts.closeHole(hole, told, this.heads)
  }

  /** For another owner's closeHole. */
  cutsTold(): readonly SegmentCut[] | undefined {
    return this.cuts.told()
  }

  /** From this sequence on the samples of a tenant, or of all, stand in another part of the segment. */
  cut(segment: number, seq: number, tenant?: string): void {
    if (segment > this.droppedUpTo) this.cuts.add({ segment, seq, tenant }, this.heads)
  }

  /** What comes again is stored where it stood before, and so is what comes after another owner has given what lies behind. */
  private inPlace(seq: number, apply: () => number): number {
    const isLast = seq > this.seqMax && seq > this.cuts.maxSeq
    this.seqMax = Math.max(this.seqMax, seq)
    if (isLast) return apply()
    try {
      for (const head of this.heads.values()) head.seek(seq)
      return apply()
    } finally {
      for (const head of this.heads.values()) head.seek(Number.POSITIVE_INFINITY)
    }
  }

  /** Tenants with samples in a segment, by name. */
  tenantsIn(segment: number): string[] {
    return [...this.heads]
      .filter(([, head]) => head.sampleCountOf(segment) > 0)
      .map(([tenant]) => tenant)
      .sort()
  }

  /** The segment of a message. One that is delivered again, of a log that is read again, lies where it lay before. */
  private segmentAt(seq: number): number {
    const found = this.segmentOf(seq)
    return found > this.droppedUpTo ? found : this.segment
  }

  /** The segment in which a message stands, or one before it where its mark was forgotten. */
  private segmentOf(seq: number): number {
    if (seq > (this.mark?.seq ?? 0)) return this.segment
    return this.marks.findLast((mark) => mark.seq < seq)?.number ?? 0
  }

  /** A batch of epoch k lies behind M(k): marks up to it were lost, and every segment that they opened misses something. */
  private adoptMark(seq: number, { epoch, nonce }: LogBatch): void {
    const known = this.mark?.number
    const number = Math.max(epoch, this.droppedUpTo + 1) // STATE-7
    this.adopt(seq, number, number === epoch ? nonce : '')
    const text = `batch of epoch ${epoch}, newest mark is ${known ?? 'none'}`
    this.damagedFrom(known === undefined ? number : known + 1, number, { kind: 'unknown-epoch', seq, text })
  }

  /** STATE-7 */
  private leaveFlushed(seq: number): void {
    if (this.mark !== undefined && this.mark.number <= this.droppedUpTo) this.adopt(seq, this.droppedUpTo + 1)
  }

  /** Goes on as behind a mark that was not met. */
  private adopt(seq: number, number: number, nonce = ''): void {
    const { since } = this.mark ?? {}
    this.mark = { number, nonce, writer: 'lost', seq: 0, isAdopted: true, ...(since !== undefined && { since }) }
    this.cut(number, seq)
  }

  /** Names each of the segments, of many only the newest: numbers may be anything where a log is damaged. */
  private damagedFrom(
    first: number,
    last: number,
    { kind, seq, text }: { kind: DamageKind; seq: number; text: string },
  ) {
    for (let lost = Math.max(first, last - DAMAGES_MAX + 1); lost <= last; lost++) this.damaged(kind, seq, text, lost)
  }

  private damaged(kind: DamageKind, seq: number, text: string, segment = this.segment, whose?: string): void {
    if (segment <= this.droppedUpTo) return // in blocks by now; what led up to it may be purged
    this.options.onDamage(kind, seq, text, segment, whose)
  }

  private applyColumns(seq: number, batch: LogBatch): void {
    const session = this.session(hex(batch.session), batch.epoch)
    this.checkReference(seq, batch, session)
    session.remember(batch.counter, seq)
    this.defineStrings(batch, session)
    this.defineSeries(batch, session)
    const segment = this.options.isForgetful ? seq : this.segmentAt(seq)
    const toldIn = Math.min(this.segmentOf(seq), batch.epoch) // a replay from M(k) may lack what batches of earlier epochs build on
    const told = { toldIn, here: { incarnation: this.incarnation, segment: this.segmentOf(seq), seq } }
    const undefinedCount = this.inPlace(
      seq,
      () =>
        (batch.starts === undefined
          ? this.applyFloats(batch, session, segment)
          : this.applyStarted(batch, session, segment)) +
        this.applyHistograms(batch, session, segment) +
        this.applyExemplars(batch, session, told),
    )
    this.applyMetadata(batch, told)
    this.segmentBytes += batch.values.length * 10 + batch.histograms.length
    if (undefinedCount > 0) {
      const text = `${undefinedCount} samples name series that session ${hex(batch.session).slice(0, 8)} never defined`
      this.damaged('undefined-id', seq, text)
    }
    const { text, whose } = this.unstorable.taken(this.heads)
    if (text !== '') this.damaged('unstorable', seq, text, this.segment, whose)
  }

  /** The dictionary of a session, made when it is new. */
  session(key: string, epoch: number): SessionDictionary {
    let session = this.sessions.get(key)
    if (!session) {
      session = new SessionDictionary(epoch)
      this.sessions.set(key, session)
    }
    return session
  }

  /** The dictionaries of the current and the previous epoch. */
  sessionsHeld(): ReadonlyMap<string, SessionDictionary> {
    return this.sessions
  }

  /** LOG-10: the batch that this one names as the session's newest stored must have been seen, where it says it is. */
  private checkReference(seq: number, batch: LogBatch, session: SessionDictionary): void {
    if (batch.lastCounter === 0) return
    if (batch.lastSeq >= seq) {
      if (session.hasSeen(batch.lastCounter, batch.lastSeq)) return // a rewound log took it back, but it was applied here
      this.damaged('bad-reference', seq, `batch names sequence ${batch.lastSeq} as stored before it`)
      return
    }
    if (batch.lastSeq < this.firstSeq || session.mayHaveSeen(batch.lastCounter)) return
    const text = `batch ${batch.counter} names batch ${batch.lastCounter} at sequence ${batch.lastSeq}, which the log did not deliver`
    this.damaged('bad-reference', seq, text)
  }

  private defineStrings(batch: LogBatch, session: SessionDictionary): void {
    const reader = new Reader(batch.strings)
    while (reader.remaining > 0) {
      const number = reader.uvarint()
      session.name(number, reader.text())
      reader.check('strings')
    }
  }

  private defineSeries(batch: LogBatch, session: SessionDictionary): void {
    const { strings } = this.options
    const reader = new Reader(batch.definitions)
    const numbers: number[] = []
    while (reader.remaining > 0) {
      const id = reader.uvarint()
      const tenant = session.strings[reader.uvarint()]
      const length = 2 * reader.uvarint()
      numbers.length = 0
      let isWhole = tenant !== undefined
      for (let i = 0; i < length && !reader.failed; i++) {
        const number = session.numberOf(reader.uvarint(), strings)
        if (number < 0) isWhole = false
        else numbers.push(number)
      }
      reader.check('definitions')
      if (!isWhole || session.heads[id] !== undefined) continue
      const head = this.head(tenant!)
      session.define(id, head, head.series(numbers))
    }
  }

  /** Returns how many samples name an undefined series. */
  private applyFloats(batch: LogBatch, session: SessionDictionary, segment: number): number {
    const { ids, times, values, sampleCount } = batch
    const { heads } = session
    const idReader = new Reader(ids)
    const timeReader = new Reader(times)
    let id = 0
    let time = 0
    let undefinedCount = 0
    const isDropped = this.segment <= this.droppedUpTo
    for (let i = 0; i < sampleCount; i++) {
      id += idReader.zigzag()
      time += timeReader.zigzag()
      const head = heads[id]
      if (head === undefined) undefinedCount++
      else if (isDropped) continue
      else if (time > SAMPLE_TIME_MS_MAX || time < -SAMPLE_TIME_MS_MAX)
        this.unstorable.passOver(head, session.refs[id]!, time)
      else head.appendFloat(session.refs[id]!, segment, time, values, i)
    }
    idReader.end('ids')
    timeReader.end('times')
    this.samplesApplied += sampleCount
    return undefinedCount
  }

  /** The same for floats of which some have start times. */
  private applyStarted(batch: LogBatch, session: SessionDictionary, segment: number): number {
    const { values, sampleCount } = batch
    const idReader = new Reader(batch.ids)
    const timeReader = new Reader(batch.times)
    const starts = new StartsReader(batch.starts)
    const words = wordsOf(values)
    let id = 0
    let time = 0
    let undefinedCount = 0
    const isDropped = this.segment <= this.droppedUpTo
    for (let i = 0; i < sampleCount; i++) {
      id += idReader.zigzag()
      time += timeReader.zigzag()
      const start = starts.next()
      const head = session.heads[id]
      const ref = session.refs[id]!
      if (head === undefined) undefinedCount++
      else if (isDropped) continue
      else if (!isStorableTime(time)) this.unstorable.passOver(head, ref, time)
      else if (start === 0 || !isStorableTime(start)) head.appendFloat(ref, segment, time, values, i)
      else head.appendStarted(ref, segment, time, words[2 * i]!, words[2 * i + 1]!, start)
    }
    idReader.end('ids')
    timeReader.end('times')
    starts.end()
    this.samplesApplied += sampleCount
    return undefinedCount
  }

  private applyHistograms(batch: LogBatch, session: SessionDictionary, segment: number): number {
    const reader = new Reader(batch.histograms)
    const starts = new StartsReader(batch.histogramStarts)
    let undefinedCount = 0
    const isDropped = this.segment <= this.droppedUpTo
    while (reader.remaining > 0) {
      const id = reader.uvarint()
      const time = reader.zigzag()
      const canonical = reader.bytes(reader.uvarint())
      reader.check('histograms')
      const start = starts.next()
      const head = session.heads[id]
      this.samplesApplied++
      if (head === undefined) undefinedCount++
      if (head === undefined || isDropped) continue
      const [ref, histogram] = [session.refs[id]!, decodeCanonical(canonical)]
      if (!isStorableTime(time) || !isStorableHistogram(histogram)) this.unstorable.passOver(head, ref, time, true)
      else head.appendHistogram(ref, segment, time, histogram, isStorableTime(start) ? start : 0)
    }
    starts.end()
    return undefinedCount
  }

  private applyExemplars(batch: LogBatch, session: SessionDictionary, { toldIn, here }: Told): number {
    const reader = new Reader(batch.exemplars)
    const places = new PlacesReader(batch.exemplarPlaces)
    let undefinedCount = 0
    while (reader.remaining > 0) {
      const id = reader.uvarint()
      const time = reader.zigzag()
      const value = reader.number()
      const labels: string[] = []
      for (let left = 2 * reader.uvarint(); left > 0 && !reader.failed; left--) labels.push(reader.text())
      reader.check('exemplars')
      const place = placeOf(places, here)
      const head = session.heads[id]
      if (head === undefined) undefinedCount++
      else if (!isStorableTime(time)) this.unstorable.passOver(head, session.refs[id]!, time)
      else head.appendExemplar(session.refs[id]!, { time, value, labels }, toldIn, place)
    }
    return undefinedCount
  }

  private applyMetadata(batch: LogBatch, { toldIn, here }: Told): void {
    const reader = new Reader(batch.metadata)
    const places = new PlacesReader(batch.metadataPlaces)
    while (reader.remaining > 0) {
      const tenant = reader.text()
      const row = { metric: reader.text(), type: reader.text(), help: reader.text(), unit: reader.text() }
      reader.check('metadata')
      this.metadata.tell(tenant, row, toldIn, placeOf(places, here))
    }
  }
}
