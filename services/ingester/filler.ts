// Filling: an owner that misses part of a segment takes the whole segment from another owner's memory. Applying is idempotent, so
// what both hold changes nothing.
import { CorruptError, textOf } from '../../shared/base/errors.ts'
import { askStream } from '../../shared/bus/ask.ts'
import type { Bus } from '../../shared/bus/port.ts'
import {
  type FillFrame,
  fill,
  type OwnerStamp,
  type SelectFrame,
  type SessionPart,
} from '../../shared/contracts/read.ts'
import type { Log } from '../../shared/telemetry/log.ts'
import { SampleColumns } from '../../shared/tsdb/columns.ts'
import { decodeChunk } from '../../shared/tsdb/decode.ts'
import type { Head } from '../../shared/tsdb/head/head.ts'
import type { StringTable } from '../../shared/tsdb/head/string-table.ts'
import { type Damage, describe } from './damage.ts'
import type { Owner } from './owner.ts'
import type { OwnerMetrics } from './owner-metrics.ts'

export interface FillDeps {
  readonly bus: Bus
  readonly log: Log
  readonly metrics: OwnerMetrics
  readonly strings: StringTable
  /** The other owners of the partition that are alive. */
  readonly others: readonly string[]
}

/** Asks the other owners for the segments of all open damage. What all of them have answered and none has whole is `missing`; while one
 *  is behind or does not answer, the damage stays open and is asked for again. True when nothing is left open. */
export async function fillDamage(owner: Owner, deps: FillDeps): Promise<boolean> {
  const open = owner.damages.filter((damage) => damage.state === 'open')
  let isSettled = true
  for (const segment of new Set(open.map((damage) => damage.segment))) {
    const damages = open.filter((damage) => damage.segment === segment)
    const neededSeq = Math.max(...damages.map((damage) => damage.toSeq))
    const isOpenEnded = damages.some(({ kind }) => kind === 'gap' || kind === 'rewind') // nobody knows how many marks lay in the hole
    const outcome = await fillSegment(owner, { segment, isOpenEnded, neededSeq }, deps)
    if (outcome === 'open') isSettled = false
    else for (const damage of damages) settle(damage, outcome, owner, deps)
  }
  return isSettled
}

function settle(damage: Damage, outcome: 'filled' | 'missing', owner: Owner, { metrics, log }: FillDeps): void {
  damage.state = outcome
  metrics.fills.with({ outcome }).inc()
  const facts = { partition: owner.partition }
  if (outcome === 'filled') log.info(facts, `damage filled: ${describe(damage)}`)
  else log.error(facts, `no other owner could fill: ${describe(damage)}`)
}

/** `filled` when one of the others was past the damage and has the segment without damage of its own. */
async function fillSegment(
  owner: Owner,
  { segment, isOpenEnded, neededSeq }: { segment: number; isOpenEnded: boolean; neededSeq: number },
  deps: FillDeps,
): Promise<Damage['state']> {
  let outcome: Damage['state'] = 'missing'
  for (const other of deps.others) {
    try {
      const { stamp, held } = await new Fill(owner, segment, deps.strings).take(other, deps.bus)
      const later = isOpenEnded ? held.filter((number) => number > segment) : []
      for (const number of later) await new Fill(owner, number, deps.strings).take(other, deps.bus)
      if (stamp.appliedSeq < neededSeq || stamp.firstSegment > segment)
        outcome = 'open' // or it is in blocks: heard soon
      else if (stamp.warnings.length === 0) return 'filled'
    } catch (error) {
      outcome = 'open'
      deps.log.warn({ partition: owner.partition, other, reason: textOf(error) }, 'another owner could not fill yet')
    }
  }
  return outcome
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

  async take(other: string, bus: Bus): Promise<{ stamp: OwnerStamp; held: readonly number[] }> {
    const { partition, incarnation } = this.owner
    const { state } = this.owner
    let stamp: OwnerStamp | undefined
    let held: readonly number[] = []
    for await (const part of askStream(
      bus,
      fill,
      { id: other },
      { partition, incarnation, segment: this.segment },
      {},
    )) {
      stamp ??= part.stamp
      held = part.held ?? held
      for (const deletion of part.deletions ?? []) state.learnDelete(deletion)
      if (part.session !== undefined) this.applySession(part, part.session)
      else if (part.tenant !== '') this.applySamples(part)
    }
    if (stamp === undefined) throw new CorruptError('bad-answer', `${other} answered without a stamp`)
    return { stamp, held }
  }

  private applySamples({ tenant, frame }: FillFrame): void {
    if (this.segment <= this.owner.state.droppedUpTo) return // in blocks by now
    const head = this.owner.state.head(tenant)
    let chunk = 0
    this.seriesOf(tenant, tenant, frame).forEach((ref, i) => {
      for (let left = frame.chunkCounts?.[i] ?? 0; left > 0; left--) {
        const seq = frame.chunkSeqs?.[chunk] ?? 0
        head.cut({ segment: this.segment, seq })
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
      const startTime = startTimes?.[i] ?? 0
      if (histogram !== undefined) head.appendHistogram(ref, segment, times[i]!, histogram, startTime)
      else if (startTime === 0) head.appendFloat(ref, segment, times[i]!, values, i)
      else head.appendStarted(ref, segment, times[i]!, words[2 * i]!, words[2 * i + 1]!, startTime)
    }
  }
}
