// Looks over the shoulder of the hub: keeps every message that a log ever stored, damages some on their way, and looks at each purge before it happens.

import { decodeFlushed } from '../../shared/blocks/codec.ts'
import type { LogMessage } from '../../shared/bus/port.ts'
import { keysFor } from '../../shared/bus/record.ts'
import { BLOCKS_BUCKET, type Flushed, flushedKey } from '../../shared/contracts/blocks.ts'
import { batchSubject, highWaterRecord, LOG_BUCKET, logName, markSubject } from '../../shared/contracts/log.ts'
import type { SwitchName } from './faults.ts'
import { readLog } from './log-model.ts'
import type { Scene } from './scene.ts'

interface Kept {
  readonly message: LogMessage
  readonly incarnation: string
  /** Some owner, or all, may never have had it. */
  isDamaged: boolean
}

/** What a log has lost, that may be missing without a warning. */
interface Untold {
  readonly values: ReadonlySet<number>
  /** Whether all who follow the log live on and had read it. */
  readonly isKnown: () => boolean
}

/** Whether all owners are those that had read the log up to this sequence when it was asked. */
export type Reached = (seq: number) => () => boolean

type Harm = (message: LogMessage, by: string) => LogMessage | undefined

const DAMAGES_MAX = 3
const DAMAGE_CHANCE = 0.04
const CUT_MAX = 5
const CUT_FAR_MAX = 60
const MARKS_LOST_MAX = 4
/** Of messages that have no checksum: what lies before says what the message is, and of which version. */
const HEAD_BYTES = 8
const INGESTERS_MAX = 3

/** Of which segment that is what stands behind a lost mark nobody can tell before the next one: one owner takes it for a part of
 *  what another has flushed, until it has added that to the blocks. */
function* unharmedOf(partition: number, all: readonly Kept[]): Iterable<LogMessage> {
  let isPlaced = true
  for (const { message, isDamaged } of all) {
    const isMark = message.subject === markSubject(partition)
    if (isMark) isPlaced = !isDamaged
    if (isMark || (isPlaced && !isDamaged)) yield message
  }
}

export class LogWatch {
  private readonly scene: Scene
  private readonly kept = new Map<string, Kept[]>()
  private readonly harms = new Map<LogMessage, Harm>()
  private damageCount = 0
  private untold: Untold | undefined
  purgedCount = 0
  private safe: { readonly storedCount: number; readonly damageCount: number; readonly values: Set<number> } | undefined
  private storedCount = 0

  constructor(scene: Scene) {
    this.scene = scene
  }

  get hasDamage(): boolean {
    return this.damageCount > 0
  }

  /** All that the log ever held, in this life of it. */
  all(partition: number): LogMessage[] {
    const log = this.scene.hub.log(logName(partition))
    const kept = this.kept.get(logName(partition)) ?? []
    return kept.filter(({ incarnation }) => incarnation === log?.incarnation).map(({ message }) => message)
  }

  /** Values of samples that stand in messages which nothing happened to, and can be read without those which something happened to. */
  unharmed(): ReadonlySet<number> {
    const { storedCount, damageCount } = this
    if (this.safe?.storedCount === storedCount && this.safe.damageCount === damageCount) return this.safe.values
    const values = new Set<number>()
    for (const [log, kept] of this.kept) {
      const partition = Number(log.slice('log-'.length))
      for (const incarnation of new Set(kept.map((each) => each.incarnation))) {
        const ofIt = kept.filter((each) => each.incarnation === incarnation)
        for (const value of readLog(partition, unharmedOf(partition, ofIt)).values) values.add(value)
      }
    }
    this.safe = { storedCount, damageCount, values }
    return values
  }

  /** Whether a sample may be missing without a warning: its log lost it before any row of high water told of it (decision 7), and not all owners had read it. */
  isUntold({ kind, value }: { readonly kind: string; readonly value: number }): boolean {
    const { untold } = this
    if (untold === undefined || untold.isKnown()) return false
    return kind === 'float' ? untold.values.has(value) : untold.values.size > 0
  }

  // ---- what happens at the hub ----

  onStored({ log, message, by }: { log: string; message: LogMessage; by: string }): void {
    const incarnation = this.scene.hub.log(log)!.incarnation
    const kept: Kept = { message, incarnation, isDamaged: false }
    this.storedCount++
    const list = this.kept.get(log) ?? []
    this.kept.set(log, list)
    list.push(kept)
    const partition = Number(log.slice('log-'.length))
    const isBatch = message.subject === batchSubject(partition)
    if (!isBatch) this.scene.trace(`${log} ${message.seq}: ${message.subject} by ${by}`)
    this.mayDamage(log, kept)
  }

  onDeliver({ message, by }: { message: LogMessage; by: string }): LogMessage | undefined {
    const harm = this.harms.get(message)
    return harm === undefined ? message : harm(message, by)
  }

  /** LOG-16, at the moment that it happens: nothing from M(f) on, f being what `flushed.<p>` says. */
  onPurge({ log, belowSeq, by }: { log: string; belowSeq: number; by: string }): void {
    const { scene } = this
    const there = scene.hub.log(log)!
    const partition = Number(log.slice('log-'.length))
    const record = this.flushed(partition)
    const isSafe = record?.mark.incarnation === there.incarnation && belowSeq <= record.mark.seq
    if (!isSafe) scene.fault(`${by} purges ${log} below ${belowSeq}, flushed is ${JSON.stringify(record)}`)
    this.purgedCount += there.read(1, Number.MAX_SAFE_INTEGER).filter(({ seq }) => seq < belowSeq).length
  }

  /** As the bucket says at this moment. */
  flushed(partition: number): Flushed | undefined {
    const key = flushedKey(partition)
    const value = this.scene.hub.bucket(BLOCKS_BUCKET)?.get(key)?.value
    return value && decodeFlushed(value, key)
  }

  // ---- damage ----

  /** The log comes back without some of its newest messages. */
  cutTail(partition: number, reached: Reached): void {
    const log = this.scene.hub.log(logName(partition))!
    const { firstSeq, lastSeq } = log.state()
    const most = this.scene.plan.has('cut-far') ? CUT_FAR_MAX : CUT_MAX
    const to = Math.max(firstSeq, lastSeq - 1 - this.scene.plan.random('cut').below(most))
    const lost = (this.kept.get(logName(partition)) ?? []).filter(
      ({ message, incarnation }) =>
        incarnation === log.incarnation && message.seq > to && log.get(message.seq) === message,
    )
    this.untold = this.untoldOf(partition, to, reached)
    for (const each of lost) each.isDamaged = true
    log.cutTail(to)
    this.note(`log ${partition} ends at ${to} again, ${lost.length} messages are lost`)
  }

  /** The log comes back without some of its newest marks, all else stands. */
  loseMarks(partition: number): void {
    const log = this.scene.hub.log(logName(partition))!
    const marks = (this.kept.get(logName(partition)) ?? []).filter(
      ({ message }) => message.subject === markSubject(partition) && log.get(message.seq) === message,
    )
    const lost = marks.slice(-1 - this.scene.plan.random('lost marks').below(MARKS_LOST_MAX))
    for (const each of lost) {
      each.isDamaged = true
      log.lose(each.message.seq)
    }
    this.note(`log ${partition} comes back without ${lost.length} marks`)
  }

  /** What was lost beyond what rows tell, while not all owners are those who had read that. */
  private untoldOf(partition: number, to: number, reached: Reached): Untold {
    const { incarnation } = this.scene.hub.log(logName(partition))!
    const rows = this.scene.hub.bucket(LOG_BUCKET)!.changesSince(0, keysFor(highWaterRecord, { partition }))
    const seqs = rows.map(({ value }) => {
      const row = value && highWaterRecord.format.decode(value)
      return row?.kind === 'value' && row.value.incarnation === incarnation ? row.value.seq : 0
    })
    const toldSeq = Math.max(to, ...seqs)
    const all = this.all(partition)
    const told = all.filter(({ seq }) => seq <= toldSeq)
    const values = readLog(partition, all).values.difference(readLog(partition, told).values)
    return { values, isKnown: reached(toldSeq + 1) }
  }

  makeAnew(partition: number): void {
    for (const each of this.kept.get(logName(partition)) ?? []) each.isDamaged = true
    this.scene.hub.makeAnew(logName(partition))
    this.note(`log ${partition} is made anew`)
  }

  private mayDamage(log: string, kept: Kept): void {
    const { plan } = this.scene
    const { message } = kept
    if (!this.scene.isChaos() || this.damageCount >= DAMAGES_MAX) return
    const isMark = message.subject.endsWith('.mark')
    if (isMark && !plan.has('damaged-marks')) return
    const chance = plan.random(`damage ${log} ${this.storedCount}`)
    if (chance.next() >= DAMAGE_CHANCE) return
    const kinds = (['hide-one', 'hide-all', 'bad-bytes'] satisfies SwitchName[]).filter((name) => plan.has(name))
    const kind = kinds[chance.below(Math.max(1, kinds.length))]
    if (kind === undefined) return
    const one = `ingester-${1 + chance.below(INGESTERS_MAX)}`
    const isForAll = kind === 'hide-all' || (kind === 'bad-bytes' && chance.next() < 0.5)
    const bad = kind === 'bad-bytes' ? spoilt(message, chance.next()) : undefined
    kept.isDamaged = true
    this.harms.set(message, (whole, by) => (isForAll || by === one ? bad : whole))
    const there = this.scene.hub.log(log)!
    if (isForAll && bad === undefined) there.lose(message.seq)
    else if (isForAll) there.spoil(message.seq, bad!.payload)
    this.note(`${kind}: ${log} ${message.seq} (${message.subject}) for ${isForAll ? 'all' : one}`)
  }

  private note(text: string): void {
    this.damageCount++
    this.scene.count('damages')
    this.scene.trace(`DAMAGE ${text}`)
  }
}

function spoilt(message: LogMessage, at: number): LogMessage {
  const payload = Uint8Array.from(message.payload)
  const head = message.subject.endsWith('.batch') ? 0 : Math.min(HEAD_BYTES, payload.length - 1)
  const index = head + Math.floor(at * (payload.length - head))
  payload[index] = payload[index]! ^ 0x10
  return { ...message, payload }
}
