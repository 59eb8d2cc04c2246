// Filling: an owner that misses part of a segment takes the whole segment from another owner's memory. Applying is idempotent, so
// what both hold changes nothing.
//
// Who is asked: all that own the partition by the ring, or hold it by their own word, and are alive. Who answers what:
//   the segment, without damage of its own, past the damage     filled, whatever others say
//   the segment with damage of its own                          it has answered: what it has was taken
//   it is not as far yet, or has the segment in blocks already  asked again: it will be, or the damage goes with the segment
//   it does not follow the partition (`err-carillon-not-owner`) it has nothing; within FOLLOW_MS of its first saying so it may be about to
//   nothing                                                     asked again; one that never said that it holds the partition, no longer than SILENT_MS
//
// Invariants
//   FILL-7  What a log has lost with its end is filled only by who had read it before: whoever began behind the loss misses nothing, and has nothing of it.
//   FILL-3  Damage becomes `missing` only when all of them have answered, by a ring that is confirmed (LOG-10): one that is slow is waited for, one that
//       died, or went over to others, is no longer among them.
//   FILL-4  It always becomes `filled` or `missing`, or goes with its segment, in the end: nobody is waited for without a bound that neither lives
//       nor follows.
//   FILL-6  A gap that a whole owner has filled cuts the segment where that one is cut, and not at its end: both hold, and flush, the same parts.
//   FILL-5  Nothing is applied to an owner that was stopped or has begun again meanwhile.
import type { Clock } from '../../../shared/base/clock.ts'
import { CarillonError, CorruptError, textOf, UnavailableError } from '../../../shared/base/errors.ts'
import { askStream } from '../../../shared/bus/ask.ts'
import type { Bus } from '../../../shared/bus/port.ts'
import {
  type FillFrame,
  fill,
  type OwnerStamp,
  type SegmentCut,
  type SelectFrame,
  type SessionPart,
} from '../../../shared/contracts/read.ts'
import { isStorableHistogram } from '../../../shared/model/histogram.ts'
import { isStorableTime } from '../../../shared/model/sample.ts'
import type { Log } from '../../../shared/telemetry/log.ts'
import { SampleColumns } from '../../../shared/tsdb/columns.ts'
import { decodeChunk } from '../../../shared/tsdb/decode.ts'
import type { Head } from '../../../shared/tsdb/head/head.ts'
import type { StringTable } from '../../../shared/tsdb/head/string-table.ts'
import { type Damage, describe } from '../state/damage.ts'
import type { Owner } from './owner.ts'
import type { OwnerMetrics } from './owner-metrics.ts'

export interface Asked {
  readonly id: string
  /** By its own word it has caught up. */
  readonly holds: boolean
}

export interface FillDeps {
  readonly bus: Bus
  readonly clock: Clock
  readonly log: Log
  readonly metrics: OwnerMetrics
  readonly strings: StringTable
  /** The others that own or hold the partition and are alive. */
  readonly others: readonly Asked[]
  /** Nobody else may be among them. */
  readonly isConfirmed: boolean
}

/** An owner that has not begun to follow after so long cannot: it may be asked before it has heard that it is one. */
const FOLLOW_MS = 30_000
/** Who is alive, but does not answer and has never caught up, is waited for so long. */
const SILENT_MS = 600_000

/** Who says nothing for so long is asked again: flush and purge of the partition wait for the answer. */
const SILENCE_MS_MAX = 5_000

/** What another owner said of itself, beside what it gave. */
interface Given {
  readonly stamp: OwnerStamp
  readonly held: readonly number[]
  readonly cuts: readonly SegmentCut[] | undefined
  readonly kept: number
}

interface Outcome {
  readonly state: Damage['state']
  readonly cuts?: Given['cuts']
}

/** Settles the damage of one owner. */
export class Filler {
  private readonly owner: Owner
  /** Who has given nothing so far, and since when. Bound: the others that are asked. */
  private idle = new Map<string, { readonly doesNotFollow: boolean; readonly sinceMs: number }>()

  constructor(owner: Owner) {
    this.owner = owner
  }

  /** Asks the others for the segments of all open damage. Rejects with UnavailableError `damage-open` while something is left open. */
  async fill(deps: FillDeps): Promise<void> {
    const { owner } = this
    const { state } = owner
    const ids = new Set(deps.others.map(({ id }) => id))
    this.idle = new Map([...this.idle].filter(([id]) => ids.has(id)))
    const open = owner.damages.filter((damage) => damage.state === 'open')
    let leftCount = 0
    const groups = Map.groupBy(open, (damage) => `${damage.segment} ${isLostEnd(damage, owner)}`)
    for (const damages of groups.values()) {
      const { segment } = damages[0]!
      const outcome: Outcome = await this.fillSegment(segment, damages, deps)
      if (owner.state !== state || owner.isStopped) break // FILL-5: what was given went to another
      if (outcome.state === 'open') leftCount += damages.length
      else for (const damage of damages) settle(damage, outcome.state, owner, deps)
      const holes = outcome.cuts === undefined ? [] : damages.filter(({ kind }) => kind === 'gap')
      for (const hole of holes) state.closeHole(hole, outcome.cuts!) // FILL-6
    }
    if (leftCount === 0) return
    throw new UnavailableError(
      'damage-open',
      `${leftCount} damages of partition ${owner.partition} wait for other owners`,
    )
  }

  private async fillSegment(segment: number, damages: readonly Damage[], deps: FillDeps): Promise<Outcome> {
    const { owner } = this
    const isOpenEnded = damages.some(({ kind }) => kind === 'gap' || kind === 'rewind') // nobody knows how many marks lay in the hole
    const toSeq = Math.max(...damages.map((damage) => damage.toSeq))
    // What a log lost behind its end nobody reaches by reading; the end may have been read before the hole was met.
    const neededSeq = Math.min(toSeq, Math.max(owner.end?.lastSeq ?? 0, owner.appliedSeq))
    const firstNeeded = Math.max(segment, owner.state.droppedUpTo + 1) // up to there it is in blocks
    const lostUpTo = damages.some((damage) => isLostEnd(damage, owner)) ? toSeq : 0
    let state: Damage['state'] = deps.isConfirmed ? 'missing' : 'open' // FILL-3
    for (const other of deps.others) {
      const answer = await this.takeFrom(other, { segment, isOpenEnded }, deps)
      if (answer === 'open') state = 'open'
      if (answer === 'open' || answer === 'nothing') continue
      const { stamp, cuts, kept } = answer
      if (stamp.appliedSeq < neededSeq || stamp.firstSegment > firstNeeded) state = 'open'
      else if (stamp.warnings.length === 0 && kept >= lostUpTo) return { state: 'filled', cuts }
    }
    return { state }
  }

  private async takeFrom(
    other: Asked,
    { segment, isOpenEnded }: { segment: number; isOpenEnded: boolean },
    deps: FillDeps,
  ): Promise<Given | 'nothing' | 'open'> {
    const { owner } = this
    try {
      const given = await new Fill(owner, segment, deps.strings).take(other.id, deps.bus)
      const later = isOpenEnded ? given.held.filter((number) => number > segment) : []
      for (const number of later) await new Fill(owner, number, deps.strings).take(other.id, deps.bus)
      this.idle.delete(other.id)
      return given
    } catch (error) {
      if (!(error instanceof CarillonError) || owner.isStopped) throw error
      deps.log.warn({ partition: owner.partition, other, reason: textOf(error) }, 'another owner could not fill')
      return this.hasNothing(other, error, deps.clock) ? 'nothing' : 'open'
    }
  }

  /** FILL-4 */
  private hasNothing({ id, holds }: Asked, { code }: CarillonError, clock: Clock): boolean {
    const doesNotFollow = code === 'err-carillon-not-owner'
    const nowMs = clock.monotonic()
    const before = this.idle.get(id)
    const sinceMs = before?.doesNotFollow === doesNotFollow ? before.sinceMs : nowMs
    this.idle.set(id, { doesNotFollow, sinceMs })
    if (doesNotFollow) return nowMs - sinceMs >= FOLLOW_MS
    return !holds && nowMs - sinceMs >= SILENT_MS
  }
}

/** FILL-7 */
function isLostEnd({ kind, incarnation }: Damage, owner: Owner): boolean {
  return kind === 'rewind' && incarnation === owner.incarnation
}

function settle(damage: Damage, outcome: 'filled' | 'missing', owner: Owner, { metrics, log }: FillDeps): void {
  damage.state = outcome
  if (outcome === 'filled' && isLostEnd(damage, owner)) owner.lostEnd.keep(damage.toSeq)
  metrics.fills.with({ outcome }).inc()
  const facts = { partition: owner.partition }
  if (outcome === 'filled') log.info(facts, `damage filled: ${describe(damage)}`)
  else log.error(facts, `no other owner could fill: ${describe(damage)}`)
}

/** One answer of one owner on its way into the state. */
class Fill {
  private readonly owner: Owner
  private readonly segment: number
  private readonly strings: StringTable
  /** By what the frames belong to: the strings of the answer. Numbers of ours would not outlive an await. */
  private readonly tables = new Map<string, string[]>()
  private readonly columns = new SampleColumns()

  constructor(owner: Owner, segment: number, strings: StringTable) {
    this.owner = owner
    this.segment = segment
    this.strings = strings
  }

  async take(other: string, bus: Bus): Promise<Given> {
    const { partition, incarnation, state } = this.owner
    let stamp: OwnerStamp | undefined
    let held: readonly number[] = []
    let cuts: Given['cuts']
    let kept = Number.POSITIVE_INFINITY
    for await (const part of askStream(
      bus,
      fill,
      { id: other },
      { partition, incarnation, segment: this.segment },
      { silenceMs: SILENCE_MS_MAX },
    )) {
      if (this.owner.isStopped || this.owner.state !== state) {
        throw new UnavailableError(
          'owner-stopped',
          `partition ${partition} is not what it was when the fill was asked for`,
        ) // FILL-5
      }
      stamp ??= part.stamp
      held = part.held ?? held
      cuts = part.cuts ?? cuts
      kept = part.kept ?? kept
      if (part.session !== undefined) this.applySession(part, part.session)
      else if (part.tenant !== '') this.applySamples(part)
    }
    if (stamp === undefined) throw new CorruptError('bad-answer', `${other} answered without a stamp`)
    return { stamp, held, cuts, kept }
  }

  private applySamples({ tenant, frame }: FillFrame): void {
    if (this.segment <= this.owner.state.droppedUpTo) return // in blocks by now
    const head = this.owner.state.head(tenant)
    let chunk = 0
    this.seriesOf(tenant, tenant, frame).forEach((ref, i) => {
      for (let left = frame.chunkCounts?.[i] ?? 0; left > 0; left--) {
        const seq = frame.chunkSeqs?.[chunk] ?? 0
        this.owner.state.cut(this.segment, seq, tenant)
        head.seek(seq)
        this.applyChunk(head, ref, frame, chunk++)
      }
    })
    head.seek(Number.POSITIVE_INFINITY)
  }

  private applySession({ tenant, frame }: FillFrame, part: SessionPart): void {
    const dictionary = this.owner.state.session(part.session, part.epoch)
    for (const [i, text] of part.texts.entries()) dictionary.name(part.stringNumbers[i]!, text)
    dictionary.learn(part.batches)
    if (part.ids.length === 0) return
    const head = this.owner.state.head(tenant)
    const refs = this.seriesOf(`${part.session}/${tenant}`, tenant, frame)
    for (const [i, ref] of refs.entries()) dictionary.define(part.ids[i]!, head, ref)
  }

  /** The refs of a frame's series, which are made where they are new. */
  private seriesOf(table: string, tenant: string, frame: SelectFrame): number[] {
    const head = this.owner.state.head(tenant)
    const texts = this.textsOf(table, frame)
    const refs: number[] = []
    let label = 0
    for (const count of frame.labelCounts) {
      const run = frame.labels.subarray(label, label + 2 * count)
      refs.push(head.series(Array.from(run, (number) => this.strings.intern(texts[number]!))))
      label += 2 * count
    }
    return refs
  }

  private textsOf(table: string, frame: SelectFrame): string[] {
    const texts = this.tables.get(table) ?? []
    this.tables.set(table, texts)
    let start = 0
    for (const end of frame.stringEnds) {
      texts.push(Buffer.from(frame.strings.subarray(start, end)).toString())
      start = end
    }
    return texts
  }

  private applyChunk(head: Head, ref: number, frame: SelectFrame, chunk: number): void {
    const start = chunk === 0 ? 0 : frame.chunkEnds![chunk - 1]!
    const end = frame.chunkEnds![chunk]!
    const { segment, columns } = this
    columns.clear()
    decodeChunk({ encoding: frame.chunkEncodings![chunk]!, bytes: frame.chunks!, start, end }, columns)
    const { times, values, words, histograms, startTimes, count } = columns
    for (let i = 0; i < count; i++) {
      const histogram = histograms?.[i]
      if (!isStorableTime(times[i]!) || (histogram && !isStorableHistogram(histogram))) continue // of an older version
      const startTime = startTimes?.[i] ?? 0
      if (histogram !== undefined) head.appendHistogram(ref, segment, times[i]!, histogram, startTime)
      else if (startTime === 0) head.appendFloat(ref, segment, times[i]!, values, i)
      else head.appendStarted(ref, segment, times[i]!, words[2 * i]!, words[2 * i + 1]!, startTime)
    }
  }
}
