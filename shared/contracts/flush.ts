// flush: what an administrator asks of the leaders of partitions, beside what they do by the clock.
//
// flushNow   addressed   ingester.{id}.flush   opens the next segment (`mark`), and waits until the one that was open is in blocks (`flush`),
//                                              in every partition that this ingester leads; never sooner than `segment-min` allows (LOG-8)
// Nothing is refused: what could not be done in time is said in the answer, and goes on by itself.
import { addressed, cbor } from '../bus/contract.ts'
import { aNumber, oneOf } from '../bus/shape.ts'

export type FlushKind = 'mark' | 'flush'

export const FLUSH_WAIT_MS_MAX = 15 * 60_000

export interface FlushRequest {
  readonly kind: FlushKind
  /** How long the answer may wait for it to be done; at most FLUSH_WAIT_MS_MAX. */
  readonly waitMs: number
}

export interface FlushedPartition {
  readonly partition: number
  /** The segment that is open now. */
  readonly segment: number
  /** Segments up to this one are in blocks. */
  readonly flushed: number
  readonly isDone: boolean
  /** Tenants whose segments could not be flushed, or are set aside, and why. */
  readonly aside?: readonly string[]
}

export interface FlushReply {
  readonly partitions: readonly FlushedPartition[]
}

export const flushNow = addressed({
  name: 'flushNow',
  subject: 'ingester.{id}.flush',
  servedBy: 'ingester',
  askedBy: ['gateway', 'command'],
  timeoutMs: 30_000,
  requestBytesMax: 1024,
  replyBytesMax: 1024 * 1024,
  request: cbor<FlushRequest>({ kind: oneOf('mark', 'flush'), waitMs: aNumber }),
  reply: cbor<FlushReply>(),
  doc: 'open the next segments now, and bring the ones before into blocks',
})
