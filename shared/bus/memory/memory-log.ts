// The server side of one log in memory, with the semantics of a JetStream stream: sequences from 1, duplicates found by
// message id within a window, compare-and-set on the last sequence of a subject, new messages refused when it is full.
// Knows nothing of connections; memory-bus.ts puts delays and faults around it.
import { ConflictError, UnavailableError } from '../../base/errors.ts'
import type { Subscription } from '../../base/listeners.ts'
import type { AppendOptions, LogConfig, LogMessage, LogState } from '../port.ts'
import { hasWildcard, isMatch } from '../subject.ts'

/** What a stored message weighs beside subject and payload, as the file store counts. */
const recordBytes = 30

export class MemoryLog {
  config: LogConfig
  readonly incarnation: string
  #bytes = 0
  #firstSeq: number
  #lastSeq: number
  readonly #messages = new Map<number, LogMessage>()
  readonly #seqsOf = new Map<string, number[]>()
  readonly #seenIds = new Map<string, { seq: number; atMs: number }>()
  readonly #waiters = new Set<() => void>()

  constructor(config: LogConfig, incarnation: string) {
    this.config = config
    this.incarnation = incarnation
    this.#firstSeq = config.originSeq ?? 1
    this.#lastSeq = this.#firstSeq - 1
  }

  get lastSeq(): number {
    return this.#lastSeq
  }

  state(): LogState {
    return {
      firstSeq: this.#lastSeq === 0 ? 0 : this.#firstSeq,
      lastSeq: this.#lastSeq,
      bytes: this.#bytes,
      bytesMax: this.config.bytesMax,
      replicas: this.config.replicas,
      incarnation: this.incarnation,
      originSeq: this.config.originSeq ?? 1,
    }
  }

  holds(subject: string): boolean {
    return this.config.subjects.some((filter) => isMatch(filter, subject))
  }

  append(
    subject: string,
    payload: Uint8Array,
    options: Omit<AppendOptions, 'timeoutMs'>,
    nowMs: number,
    duplicateWindowMs = this.config.duplicateWindowMs,
  ): { seq: number; isDuplicate: boolean } {
    const { messageId, expectedLastSubjectSeq } = options
    this.#forgetOldIds(nowMs - duplicateWindowMs)
    const seen = messageId === undefined ? undefined : this.#seenIds.get(messageId)
    if (seen !== undefined) return { seq: seen.seq, isDuplicate: true }

    const seqs = this.#seqsOf.get(subject) ?? []
    const last = seqs.at(-1) ?? 0
    if (expectedLastSubjectSeq !== undefined && expectedLastSubjectSeq !== last) {
      throw new ConflictError('log-conflict', `last sequence on ${subject} is ${last}, not ${expectedLastSubjectSeq}`)
    }
    const bytes = subject.length + payload.length + recordBytes
    if (this.config.bytesMax > 0 && this.#bytes + bytes > this.config.bytesMax) {
      throw new UnavailableError(
        'log-full',
        `log ${this.config.name} holds ${this.#bytes} of ${this.config.bytesMax} bytes`,
      )
    }
    const seq = this.#lastSeq + 1
    this.#lastSeq = seq
    this.#bytes += bytes
    this.#messages.set(seq, { seq, subject, payload, messageId, storedAtMs: nowMs })
    if (messageId !== undefined) this.#seenIds.set(messageId, { seq, atMs: nowMs })
    seqs.push(seq)
    this.#seqsOf.set(subject, seqs)
    this.wake()
    return { seq, isDuplicate: false }
  }

  /** The newest message on each matching subject as of position `upToSeq`. */
  lastPerSubject(filters: readonly string[], upToSeq: number): LogMessage[] {
    const found: LogMessage[] = []
    const subjects = filters.some(hasWildcard)
      ? [...this.#seqsOf.keys()].filter((subject) => filters.some((filter) => isMatch(filter, subject)))
      : filters
    for (const subject of new Set(subjects)) {
      const seq = this.#seqsOf.get(subject)?.findLast((candidate) => candidate <= upToSeq)
      const message = seq === undefined ? undefined : this.#messages.get(seq)
      if (message !== undefined) found.push(message)
    }
    return found.sort((a, b) => a.seq - b.seq)
  }

  get(seq: number): LogMessage | undefined {
    return this.#messages.get(seq)
  }

  /** Up to `countMax` messages from `fromSeq` on. */
  read(fromSeq: number, countMax: number): LogMessage[] {
    const found: LogMessage[] = []
    for (let seq = Math.max(fromSeq, this.#firstSeq); seq <= this.#lastSeq && found.length < countMax; seq++) {
      const message = this.#messages.get(seq)
      if (message !== undefined) found.push(message)
    }
    return found
  }

  purge(belowSeq: number): number {
    const end = Math.min(belowSeq, this.#lastSeq + 1)
    let count = 0
    for (; this.#firstSeq < end; this.#firstSeq++) {
      const message = this.#messages.get(this.#firstSeq)
      if (message === undefined) continue
      this.#messages.delete(message.seq)
      this.#bytes -= message.subject.length + message.payload.length + recordBytes
      const seqs = this.#seqsOf.get(message.subject)
      seqs?.shift()
      if (seqs?.length === 0) this.#seqsOf.delete(message.subject)
      count += 1
    }
    if (belowSeq > this.#firstSeq) this.#firstSeq = belowSeq // as JetStream does beyond the end: what comes next begins there
    this.#lastSeq = Math.max(this.#lastSeq, belowSeq - 1)
    return count
  }

  /** Calls `waiter` once, after the next append. */
  onAppend(waiter: () => void): Subscription {
    this.#waiters.add(waiter)
    return { stop: () => void this.#waiters.delete(waiter) }
  }

  // ---- what a disk does ----

  /** The message is gone for everybody who has not read it. */
  lose(seq: number): void {
    const message = this.#messages.get(seq)
    if (message === undefined) return
    this.#messages.delete(seq)
    this.#bytes -= message.subject.length + message.payload.length + recordBytes
    const seqs = (this.#seqsOf.get(message.subject) ?? []).filter((other) => other !== seq)
    if (seqs.length > 0) this.#seqsOf.set(message.subject, seqs)
    else this.#seqsOf.delete(message.subject)
  }

  /** Other bytes stand in the message's place. */
  spoil(seq: number, payload: Uint8Array): void {
    const message = this.#messages.get(seq)
    if (message !== undefined) this.#messages.set(seq, { ...message, payload })
  }

  /** The log ends at `lastSeq` again: what came later is lost, and its sequences are given once more. */
  cutTail(lastSeq: number): void {
    for (let seq = this.#lastSeq; seq > lastSeq; seq--) this.lose(seq)
    this.#lastSeq = Math.min(this.#lastSeq, lastSeq)
    this.#firstSeq = Math.min(this.#firstSeq, this.#lastSeq + 1)
    for (const [id, { seq }] of this.#seenIds) if (seq > lastSeq) this.#seenIds.delete(id)
    this.wake()
  }

  /** Whoever waits for a message looks again. */
  wake(): void {
    const waiters = [...this.#waiters]
    this.#waiters.clear()
    for (const waiter of waiters) waiter()
  }

  #forgetOldIds(untilMs: number): void {
    for (const [id, { atMs }] of this.#seenIds) {
      if (atMs > untilMs) return
      this.#seenIds.delete(id)
    }
  }
}
