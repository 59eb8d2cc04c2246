// Actors: a table of what one answers, hears and does by the clock. `runActor` (run-actor.ts) is the only code that turns
// the table into subscriptions and timers.
import type { Clock } from '../base/clock.ts'
import type { CarillonError } from '../base/errors.ts'
import type { Random } from '../base/random.ts'
import type { Contract, Params, Question, StreamQuestion, Topic } from './contract.ts'
import type { Bus, BusHeaders } from './port.ts'

export interface Actor {
  readonly name: string
  readonly serves: readonly Serve[]
  readonly hears: readonly Hear[]
  readonly every: readonly Every[]
  /** Before any message is taken. */
  start(): Promise<void>
  /** After the last handler has finished. */
  stop(): Promise<void>
}

export interface HandlerContext<P extends string = string> {
  readonly params: Params<P>
  /** As the message came with them: whoever may publish may set them. */
  readonly headers: BusHeaders
  /** Passed on by the asker; hand it to further questions. */
  readonly requestId: string | undefined
  /** Aborts when the asker leaves, when the deadline passes, or when stopping has waited long enough. */
  readonly signal: AbortSignal
  /** On the monotonic clock of the bus; hand it to further questions. */
  readonly deadline: number
}

export interface ServeOptions<P extends string> {
  /** The contract's queue, else its name; addressed contracts have none. */
  readonly queue?: string
  /** Fixes parameters of the subject. An addressed contract must fix at least one. */
  readonly params?: Partial<Params<P>>
  /** Short for `params: { id }`. */
  readonly id?: string
  /** Handlers of this contract at work at once; beyond it the asker is told to come again. */
  readonly inFlightMax?: number
}

interface ServeShape {
  readonly fixed: Readonly<Record<string, string>>
  readonly queue: string | undefined
  readonly inFlightMax: number | undefined
}

export type Serve = ServeShape &
  (
    | {
        readonly kind: 'reply'
        readonly contract: Question<string, unknown, unknown>
        readonly handler: (request: unknown, context: HandlerContext) => Promise<unknown>
      }
    | {
        readonly kind: 'stream'
        readonly contract: StreamQuestion<string, unknown, unknown>
        readonly handler: (request: unknown, context: HandlerContext) => AsyncIterable<unknown>
      }
  )

export interface Hear {
  readonly contract: Topic<string, unknown>
  readonly handler: (value: unknown, context: HandlerContext) => void | Promise<void>
  readonly fixed: Readonly<Record<string, string>>
  readonly queue: string | undefined
}

export interface Every {
  readonly intervalMs: number
  readonly doc: string
  readonly fn: (signal: AbortSignal) => void | Promise<void>
  /** Each wait is drawn from interval × (1 ± jitter). */
  readonly jitter: number
}

/** Answers a question, one reply for each. */
export function serve<P extends string, Req, Rep>(
  contract: Question<P, Req, Rep>,
  handler: (request: Req, context: HandlerContext<P>) => Promise<Rep>,
  options: ServeOptions<P> = {},
): Serve {
  return { kind: 'reply', contract, handler, ...shape(contract, options) } as unknown as Serve
}

/** Answers a question with a row of frames. */
export function serveStream<P extends string, Req, Frame>(
  contract: StreamQuestion<P, Req, Frame>,
  handler: (request: Req, context: HandlerContext<P>) => AsyncIterable<Frame>,
  options: ServeOptions<P> = {},
): Serve {
  return { kind: 'stream', contract, handler, ...shape(contract, options) } as unknown as Serve
}

/** Listens to news. With a `queue`, only one of its members gets each. */
export function hear<P extends string, T>(
  contract: Topic<P, T>,
  handler: (value: T, context: HandlerContext<P>) => void | Promise<void>,
  options: { readonly params?: Partial<Params<P>>; readonly queue?: string } = {},
): Hear {
  return { contract, handler, fixed: options.params ?? {}, queue: options.queue } as unknown as Hear
}

/** Does something by the clock, first after one interval, never while the last time is still at work. */
export function every(
  intervalMs: number,
  doc: string,
  fn: (signal: AbortSignal) => void | Promise<void>,
  options: { readonly jitter?: number } = {},
): Every {
  return { intervalMs, doc, fn, jitter: options.jitter ?? 0.1 }
}

function shape<P extends string>(
  contract: Contract<P> & { readonly kind: 'question' | 'addressed'; readonly queue?: string },
  options: ServeOptions<P>,
): ServeShape {
  const fixed: Record<string, string> = { ...options.params, ...(options.id !== undefined && { id: options.id }) }
  const queue = contract.kind === 'addressed' ? undefined : (options.queue ?? contract.queue ?? contract.name)
  return { fixed, queue, inFlightMax: options.inFlightMax }
}

export type ActorState = 'new' | 'starting' | 'running' | 'stopping' | 'stopped' | 'failed'

/** What pino offers, and all that is needed of it. */
export interface ActorLog {
  debug(fields: object, text: string): void
  info(fields: object, text: string): void
  warn(fields: object, text: string): void
  error(fields: object, text: string): void
}

export type Outcome = 'ok' | CarillonError['kind'] | 'cancelled' | 'overloaded' | 'internal'

export interface ActorMetrics {
  /** A handler (or `every …`) has finished. */
  handled(name: string, seconds: number, outcome: Outcome): void
  inFlight(name: string, delta: 1 | -1): void
}

export interface RunActorOptions {
  readonly bus: Bus
  readonly clock: Clock
  readonly random: Random
  readonly log: ActorLog
  readonly metrics?: ActorMetrics | undefined
  readonly inFlightMax?: number
  /** How long stopping waits for handlers before it aborts them, and again before it leaves them. */
  readonly drainMs?: number
  /** Silence after which a large or streamed exchange is given up. */
  readonly stallMs?: number
  /** A failed assertion, or a `start` that failed: the process should exit. */
  readonly onFailed?: (error: unknown) => void
}

export interface RunningActor {
  readonly state: ActorState
  /** Resolves when it takes messages; rejects when it could not start. */
  readonly ready: Promise<void>
  stop(): Promise<void>
  inFlight(): number
}
