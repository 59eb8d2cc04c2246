// The ledger of a history, simulated or of real processes (test/chaos): what was sent and when it was acknowledged, what was asked to be deleted and
// when that was answered; and from that alone, what an answer must show, must not show, and may show.
//
// A sample's value says which send it was: no two sends of a history have the same. Moments rise, by one clock.
import type { Random } from '../../shared/base/random.ts'
import { formatLabels, type Labels, labelOf, labelsFrom } from '../../shared/model/labels.ts'
import { Deletion } from './deletion.ts'

export type Kind = 'float' | 'histogram' | 'stale' | 'nan' | 'started'

export interface Send {
  readonly tenant: string
  readonly labels: Labels
  readonly series: string
  readonly time: number
  readonly kind: Kind
  /** Also the sum of a histogram. */
  readonly value: number
  readonly begun: number
  acknowledged: number
  /** Answered at once: no earlier try of it may still be on its way to a log. */
  isClean: boolean
}

/** A push, or an upload. */
export interface Shipment {
  readonly tenant: string
  readonly sends: readonly Send[]
}

/** One answer: by series, by time, what it shows as text. */
export type Shown = ReadonlyMap<string, ReadonlyMap<number, string>>

export interface Answer {
  readonly tenant: string
  readonly begun: number
  readonly ended: number
  readonly shown: Shown
  readonly warnings: readonly string[]
  /** What was asked for; everything, where it is absent. */
  readonly scope?: Scope
}

/** Samples of the series with one value of the label `series`, at these times. */
export interface Scope {
  readonly series?: string
  readonly startMs: number
  readonly endMs: number
}

export interface Excuses {
  /** Whether a send was in a message that something happened to; undefined: nothing happened to any. */
  readonly isHarmed: ((send: Send) => boolean) | undefined
  /** Whether one that was harmed may be missing without a warning. */
  readonly isUntold?: (send: Send) => boolean
}

const SERIES_COUNT = 8
const KINDS: readonly Kind[] = ['histogram', 'stale', 'nan', 'started']
const FAULTS_MAX = 3
const VALUE_STEP = 1e6
const SPACING_MS = 1_000

export const SERIES_NAMES: readonly string[] = Array.from({ length: SERIES_COUNT }, (_, i) => String(i))

export class Ledger {
  acknowledgedCount = 0
  /** What was missing from an answer that warned, and may be. */
  readonly excused = new Set<Send>()
  private readonly byTenant = new Map<string, Map<string, Map<number, Send[]>>>()
  private readonly deletions: Deletion[] = []
  private readonly sides = new Map<string, boolean>()
  private readonly exemplars = new Map<string, Set<string>>()
  private sendCount = 0

  // ---- what clients say ----

  /** A few series with a few samples; now and then a time that was sent before, or out of order. */
  draw(
    random: Random,
    at: { tenant: string; sender: number; round: number; startMs: number; begun: number; hasKinds: boolean },
  ): Shipment {
    const sends: Send[] = []
    const seen = new Set<string>()
    for (let i = 1 + random.below(4); i > 0; i--) {
      const kind = at.hasKinds && random.next() < 0.3 ? KINDS[random.below(KINDS.length)]! : 'float'
      const series = { series: SERIES_NAMES[random.below(SERIES_COUNT)]!, sender: String(at.sender % 2) }
      const labels = labelsFrom(kind === 'float' ? { __name__: 'm', ...series } : { __name__: 'k', kind, ...series })
      const name = labels.join()
      if (seen.has(name)) continue
      seen.add(name)
      for (let k = random.below(3); k >= 0; k--) {
        const back = random.next() < 0.2 ? random.below(10) : 0
        const own = kind === 'float' ? k * 10 : this.sendCount // of the others nobody sends the same time again
        const time = at.startMs + Math.max(0, at.round - back) * SPACING_MS + own
        sends.push(this.send({ tenant: at.tenant, labels, time, kind, begun: at.begun, rank: random.below(50) }))
      }
    }
    return { tenant: at.tenant, sends }
  }

  /** Samples of an upload, each at a time of its own. */
  drawUpload(random: Random, at: { tenant: string; startMs: number; begun: number }): Shipment {
    const sends: Send[] = []
    for (let i = 1 + random.below(6); i > 0; i--) {
      const labels = labelsFrom({ __name__: 'u', series: SERIES_NAMES[random.below(SERIES_COUNT)]! })
      const time = at.startMs + this.sendCount * SPACING_MS
      sends.push(this.send({ tenant: at.tenant, labels, time, kind: 'float', begun: at.begun, rank: random.below(50) }))
    }
    return { tenant: at.tenant, sends }
  }

  acknowledge({ sends }: Shipment, moment: number): void {
    for (const send of sends) send.acknowledged = moment
    this.acknowledgedCount += sends.length
  }

  /** It is sent again: the first try may still be on its way. */
  repeat({ sends }: Shipment): void {
    for (const send of sends) send.isClean = false
  }

  delete(asked: ConstructorParameters<typeof Deletion>[0]): Deletion {
    const deletion = new Deletion(asked)
    this.deletions.push(deletion)
    return deletion
  }

  answer(deletion: Deletion, moment: number): void {
    deletion.answer(moment)
    for (const other of this.deletions) other.noteAnswered(deletion, moment)
  }

  // ---- judging ----

  /** What is wrong with a strong answer, or with all that is stored. */
  judge(answer: Answer, excuses: Excuses): string[] {
    const faults: string[] = []
    const { tenant, shown, scope } = answer
    for (const [series, times] of this.byTenant.get(tenant) ?? []) {
      const got = shown.get(series)
      for (const [time, sends] of times) {
        if (scope !== undefined && !isWithin(sends[0]!, scope)) continue
        const fault = this.judgeOne(sends, got?.get(time), answer, excuses)
        if (fault === undefined) continue
        faults.push(`${fault}: ${this.describe(sends[0]!)}`)
        if (faults.length >= FAULTS_MAX) return faults
      }
    }
    for (const [series, times] of shown) {
      for (const time of times.keys()) {
        if (this.byTenant.get(tenant)?.get(series)?.has(time) === true) continue
        return [...faults, `a sample that nobody sent to tenant ${tenant}: ${series} @ ${time}`]
      }
    }
    return faults
  }

  /** What is wrong with counts of samples of floats, by series. */
  judgeCounts(answer: Omit<Answer, 'shown'>, counts: ReadonlyMap<string, number>, excuses: Excuses): string[] {
    const faults: string[] = []
    const why = whyNot(answer, excuses)
    for (const [series, times] of this.byTenant.get(answer.tenant) ?? []) {
      if (!series.startsWith('m{')) continue
      let [least, most] = [0, 0]
      for (const sends of times.values()) {
        if (answer.scope !== undefined && !isWithin(sends[0]!, answer.scope)) continue
        const fates = sends.map((send) => this.fateOf(send, answer))
        const mayMiss = sends.some((send) => isExcused(send, answer, excuses))
        if (fates.includes('show') && !mayMiss) least++
        if (fates.some((fate) => fate !== 'hide')) most++
      }
      const count = counts.get(series) ?? 0
      if (count < least) faults.push(`misses ${least - count} of ${least} counted samples of ${series}${why}`)
      if (count > most)
        faults.push(`counts ${count} samples of ${series}, there are ${most}: twice, or which was deleted`)
    }
    return faults.slice(0, FAULTS_MAX)
  }

  private judgeOne(
    sends: readonly Send[],
    shown: string | undefined,
    answer: Answer,
    excuses: Excuses,
  ): string | undefined {
    let least: Send | undefined
    let source: Send | undefined
    for (const send of sends) {
      if (textOf(send) === shown) source = send
      if (send.kind === 'stale') continue
      if (this.fateOf(send, answer) === 'show' && (least === undefined || send.value > least.value)) least = send
    }
    if (shown !== undefined && source === undefined) return `shows ${shown}, which nobody sent`
    if (source !== undefined && this.fateOf(source, answer) === 'hide') return `shows ${shown}, which was deleted`
    const isMissing = least !== undefined && (source === undefined || source.value < least.value)
    if (isMissing && isExcused(least!, answer, excuses)) this.excused.add(least!)
    else if (isMissing) {
      const what = `${source === undefined ? 'misses' : `shows ${shown} in place of`} ${textOf(least!)}`
      return what + whyNot(answer, excuses)
    }
    for (const send of sends) {
      const fault = excuses.isHarmed?.(send) === true ? undefined : this.checkSide(send, source, answer)
      if (fault !== undefined) return fault
    }
    return undefined
  }

  private fateOf(send: Send, { begun, ended }: Pick<Answer, 'begun' | 'ended'>): 'show' | 'may' | 'hide' {
    if (send.acknowledged >= begun) return 'may'
    let isSure = true
    for (const deletion of this.deletions) {
      const effect = deletion.effectOn(send, begun, ended)
      if (effect === 'hides') return 'hide'
      if (effect === 'may hide') isSure = false
    }
    return isSure ? 'show' : 'may'
  }

  /** What was begun before a deletion was answered and acknowledged after it was asked for lies on either side: on the same for ever. */
  private checkSide(send: Send, source: Send | undefined, answer: Answer): string | undefined {
    if (send.acknowledged >= answer.begun || !send.isClean || send.kind === 'stale') return undefined
    let only: Deletion | undefined
    for (const deletion of this.deletions) {
      if (deletion.effectOn(send, answer.begun, answer.ended) === 'none') continue
      if (only !== undefined || !deletion.isSettled(answer.begun)) return undefined
      only = deletion
    }
    if (only === undefined || (source !== undefined && source.value > send.value)) return undefined
    const isShown = source === send
    const key = `${send.value} ${only.id}`
    const before = this.sides.get(key)
    this.sides.set(key, isShown)
    if (before === undefined || before === isShown) return undefined
    return `${textOf(send)} changed sides: ${before ? 'shown' : 'hidden'} before, ${isShown ? 'shown' : 'hidden'} now`
  }

  /** Of the values that are stored, those that had to be gone for good when their deletion became `removed`. */
  storedAgainst(
    tenant: string,
    stored: ReadonlySet<number>,
    { removed, moment }: { removed: ReadonlySet<string>; moment: number },
  ): string[] {
    const faults: string[] = []
    const done = this.deletions.filter((deletion) => deletion.tenant === tenant && removed.has(deletion.id))
    for (const times of this.byTenant.get(tenant)?.values() ?? []) {
      for (const send of [...times.values()].flat()) {
        if (!stored.has(send.value)) continue
        const by = done.find((deletion) => deletion.effectOn(send, moment, moment) === 'hides')
        if (by !== undefined) faults.push(`${by.id} is removed, and stored is ${textOf(send)}: ${this.describe(send)}`)
      }
    }
    return faults.slice(0, FAULTS_MAX)
  }

  // ---- exemplars ----

  /** The label set of an exemplar is its identity. */
  noteExemplar(tenant: string, id: string): void {
    const known = this.exemplars.get(tenant) ?? new Set()
    this.exemplars.set(tenant, known.add(id))
  }

  exemplarsMissing(tenant: string, held: ReadonlySet<string>): string[] {
    const known = this.exemplars.get(tenant) ?? new Set()
    const missing = [...known].filter((id) => !held.has(id))
    if (missing.length === 0) return []
    return [`${missing.length} of ${known.size} acknowledged exemplars are lost: ${missing.slice(0, FAULTS_MAX)}`]
  }

  // ---- telling ----

  /** All that is known of one series and time, in words. */
  describe({ tenant, labels, series, time }: Send): string {
    const sends = this.byTenant.get(tenant)!.get(series)!.get(time)!
    const told = sends.map(
      (send) =>
        `${textOf(send)} begun ${ms(send.begun)} acknowledged ${ms(send.acknowledged)}${send.isClean ? '' : ' (repeated)'}`,
    )
    const touched = this.deletions.filter((deletion) => sends.some((send) => deletion.takes(send)))
    return `${tenant} ${formatLabels(labels)} @ ${time}: ${told.join('; ')}${touched.map((each) => `; ${each.describe()}`).join('')}`
  }

  private send(of: { tenant: string; labels: Labels; time: number; kind: Kind; begun: number; rank: number }): Send {
    const { tenant, labels, time, kind, begun, rank } = of
    const value = (rank + 1) * VALUE_STEP + ++this.sendCount // nothing else in a history is so large
    const send: Send = {
      tenant,
      labels,
      series: formatLabels(labels),
      time,
      kind,
      value,
      begun,
      acknowledged: Infinity,
      isClean: true,
    }
    const all = this.byTenant.get(tenant) ?? new Map<string, Map<number, Send[]>>()
    this.byTenant.set(tenant, all)
    const times = all.get(send.series) ?? new Map<number, Send[]>()
    all.set(send.series, times)
    const there = times.get(time) ?? []
    there.push(send)
    times.set(time, there)
    return send
  }
}

/** As an answer shows it. */
export function textOf({ kind, value }: Pick<Send, 'kind' | 'value'>): string {
  if (kind === 'histogram') return `histogram ${value}`
  return kind === 'nan' ? 'NaN' : kind === 'stale' ? 'a stale marker' : String(value)
}

function isExcused(send: Send, { warnings }: Pick<Answer, 'warnings'>, { isHarmed, isUntold }: Excuses): boolean {
  return isHarmed?.(send) === true && (warnings.length > 0 || isUntold?.(send) === true)
}

/** Why what is missing is not excused. */
function whyNot({ warnings }: Pick<Answer, 'warnings'>, { isHarmed }: Excuses): string {
  if (isHarmed === undefined) return ''
  return warnings.length === 0 ? ', and no warning says so' : ', of which nothing was damaged'
}

function isWithin({ labels, time }: Send, { series, startMs, endMs }: Scope): boolean {
  return time >= startMs && time <= endMs && (series === undefined || labelOf(labels, 'series') === series)
}

const ms = (moment: number): string => (moment === Infinity ? 'never' : moment.toFixed(0))
