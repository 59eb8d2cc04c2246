// One deletion as its client saw it: asked for, answered, perhaps taken back; and what follows from that for each sample, by whatever protocol.
//
//   acknowledged before it was asked for → hidden · begun after it was answered, or after another of the same that was asked for later was → not
//   touched · else either, and the same for ever
import { labelOf } from '../../shared/model/labels.ts'
import type { Send } from './ledger.ts'

/** Both included. */
export interface Times {
  readonly startMs: number
  readonly endMs: number
}

export class Deletion {
  readonly id: string
  readonly tenant: string
  /** The value of the label `series`; undefined: the whole tenant. */
  readonly series: string | undefined
  private readonly times: Times | undefined
  private readonly asked: number
  private answered = Infinity
  private overtaken = Infinity
  private undoAsked = Infinity
  private undoAnswered = Infinity
  private isUndone = false

  constructor({
    id,
    tenant,
    series,
    times,
    asked,
  }: { id: string; tenant: string; series: string | undefined; times?: Times; asked: number }) {
    this.id = id
    this.tenant = tenant
    this.series = series
    this.times = times
    this.asked = asked
  }

  get isAnswered(): boolean {
    return this.answered < Infinity
  }

  answer(moment: number): void {
    this.answered = moment
  }

  /** Another that was asked for is answered: whatever becomes of this one, it takes nothing that is begun from here on. */
  noteAnswered(other: Deletion, moment: number): void {
    const isSame = other.tenant === this.tenant && other.series === this.series
    if (isSame && this.asked < other.asked) this.overtaken = Math.min(this.overtaken, moment)
  }

  askUndo(moment: number): void {
    this.undoAsked = moment
  }

  answerUndo(moment: number, isUndone: boolean): void {
    this.undoAnswered = moment
    this.isUndone = isUndone
  }

  takes({ tenant, labels, time }: Pick<Send, 'tenant' | 'labels' | 'time'>): boolean {
    const { times, series } = this
    if (tenant !== this.tenant || (times && (time < times.startMs || time > times.endMs))) return false
    return series === undefined || labelOf(labels, 'series') === series
  }

  /** On what an answer shows that was begun and ended then. */
  effectOn(send: Send, begun: number, ended: number): 'none' | 'may hide' | 'hides' {
    if (this.asked > ended || send.begun > Math.min(this.answered, this.overtaken) || !this.takes(send)) return 'none'
    if (this.isUndone && this.undoAnswered < begun) return 'none'
    const mayBeUndone = this.undoAsked <= ended && !(this.undoAnswered < begun && !this.isUndone)
    const isSure = this.answered < begun && send.acknowledged < this.asked && send.isClean && !mayBeUndone
    return isSure ? 'hides' : 'may hide'
  }

  /** Answered before, and nobody asked to take it back. */
  isSettled(begun: number): boolean {
    return this.answered < begun && this.undoAsked === Infinity
  }

  describe(): string {
    const undo =
      this.undoAsked === Infinity
        ? ''
        : `, undo asked ${ms(this.undoAsked)}, ${this.isUndone ? 'undone' : 'refused'} ${ms(this.undoAnswered)}`
    const between = this.times === undefined ? '' : ` from ${this.times.startMs} to ${this.times.endMs}`
    return `${this.id} of ${this.series ?? 'all'}${between} asked ${ms(this.asked)} answered ${ms(this.answered)}${undo}`
  }
}

const ms = (moment: number): string => (moment === Infinity ? 'never' : moment.toFixed(0))
