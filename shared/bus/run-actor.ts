// Runs an actor: subscriptions and timers from its table, its states, its bounds, its errors.
//
//   new → starting → running → stopping → stopped
//                └──────┴──────────┴────→ failed
//
// Invariants
//   ACTOR-1  Nothing is taken before `start` has resolved. Once stopping has begun, only what was on its way to this actor already.
//   ACTOR-2  At most `inFlightMax` handlers are at work; whoever comes then is told so at once.
//   ACTOR-3  Every question that was taken is answered, whatever its handler throws; `stop` of the actor runs after the last
//       handler has finished, or after `drainMs`.
//   ACTOR-4  A failed assertion ends the actor: it is a bug, and going on would be guessing.
//   ACTOR-5  Whoever asked for signs of life gets one as often as it wants, to a quarter of a second, until its question is answered.
//       Once the answer waits for its asker in a pipe, the sign says where: what said so first may be lost.

import { AssertionError } from '../base/assert.ts'
import { sleep, type Timer } from '../base/clock.ts'
import { CarillonError, textOf, UnavailableError } from '../base/errors.ts'
import type { Actor, ActorState, Every, Hear, Outcome, RunActorOptions, RunningActor, Serve } from './actor.ts'
import { answer } from './answer.ts'
import { cancelHeader, cancelSubject, requestIdHeader, signsHeader, timeoutHeader } from './ask.ts'
import { Call } from './call.ts'
import { paramsIn, subjectFilter } from './contract.ts'
import { failureHeaders } from './failure.ts'
import { cancelledCode, tooLarge } from './pipe.ts'
import type { BusMessage, BusSubscription } from './port.ts'

const inFlightMaxDefault = 1_000
const drainMsDefault = 10_000
const timeoutMsMax = 3_600_000
const sweepMs = 250
const newsTimeoutMs = 60_000
const onTheWayMsMax = 2_000

export function runActor(actor: Actor, options: RunActorOptions): RunningActor {
  const run = new Run(actor, options)
  return {
    get state() {
      return run.state
    },
    ready: run.ready,
    stop: () => run.stop(),
    inFlight: () => run.calls.size,
  }
}

class Run {
  state: ActorState = 'new'
  readonly ready: Promise<void>
  readonly calls = new Set<Call>()
  readonly #actor: Actor
  readonly #options: RunActorOptions
  readonly #inFlightMax: number
  readonly #subscriptions: BusSubscription[] = []
  readonly #timers = new Set<Timer>()
  readonly #ending = new AbortController()
  readonly #cancellable = new Map<string, Call>()
  #everyAtWork = 0
  #sweep: Timer | undefined
  #idle: (() => void) | undefined
  #stopped: Promise<void> | undefined

  constructor(actor: Actor, options: RunActorOptions) {
    this.#actor = actor
    this.#options = options
    this.#inFlightMax = options.inFlightMax ?? inFlightMaxDefault
    this.ready = this.#start()
    this.ready.catch(() => undefined) // told through onFailed and the state as well
  }

  stop(): Promise<void> {
    this.#stopped ??= this.#stop()
    return this.#stopped
  }

  async #start(): Promise<void> {
    this.state = 'starting'
    try {
      await this.#actor.start()
    } catch (error) {
      this.#fail(error, 'could not start')
      throw error
    }
    if (this.state !== 'starting') return // stopped meanwhile
    this.state = 'running'
    const { bus } = this.#options
    for (const serve of this.#actor.serves) this.#serve(serve)
    for (const hear of this.#actor.hears) this.#hear(hear)
    for (const every of this.#actor.every) this.#every(every)
    if (this.#actor.serves.length > 0) {
      this.#subscriptions.push(
        bus.subscribe(cancelSubject, {}, ({ payload }) => {
          const token = Buffer.from(payload.buffer, payload.byteOffset, payload.byteLength).toString()
          this.#cancellable.get(token)?.abort(new UnavailableError(cancelledCode, 'the asker left'))
        }),
      )
    }
    this.#options.log.debug({ actor: this.#actor.name }, 'running')
  }

  async #stop(): Promise<void> {
    if (this.state === 'failed') return
    const wasRunning = this.state === 'running'
    this.state = 'stopping'
    await this.#closeSubscriptions()
    if (!wasRunning) await this.ready
    else await this.#drain()
    try {
      await this.#actor.stop()
      this.state = 'stopped'
      this.#options.log.debug({ actor: this.#actor.name }, 'stopped')
    } catch (error) {
      this.#fail(error, 'could not stop')
      throw error
    }
  }

  async #drain(): Promise<void> {
    const { drainMs = drainMsDefault, log } = this.#options
    if (await this.#isIdleWithin(drainMs)) return
    const reason = new UnavailableError('err-carillon-stopping', `${this.#actor.name} is stopping`)
    this.#ending.abort(reason)
    for (const call of this.calls) call.abort(reason)
    if (await this.#isIdleWithin(drainMs)) return
    log.warn({ actor: this.#actor.name, inFlightCount: this.calls.size }, 'stopping while handlers are at work')
  }

  async #isIdleWithin(waitMs: number): Promise<boolean> {
    if (this.calls.size === 0 && this.#everyAtWork === 0) return true
    const enough = new AbortController()
    const timeout = sleep(this.#options.clock, waitMs, enough.signal).then(
      () => false,
      () => true,
    )
    const idle = new Promise<boolean>((resolve) => {
      this.#idle = () => resolve(true)
    })
    const isIdle = await Promise.race([idle, timeout])
    this.#idle = undefined
    enough.abort()
    return isIdle
  }

  #serve(serve: Serve): void {
    const { bus, log, metrics, stallMs } = this.#options
    const { contract } = serve
    const filter = subjectFilter(contract, serve.fixed)
    const inFlightMax = serve.inFlightMax ?? Number.POSITIVE_INFINITY
    let inFlightCount = 0
    const onMessage = (message: BusMessage) => {
      if (this.calls.size >= this.#inFlightMax || inFlightCount >= inFlightMax)
        return this.#overloaded(contract.name, message)
      const call = this.#begin(contract.name, paramsIn(contract, message.subject), contract.timeoutMs, message)
      inFlightCount += 1
      void answer({ bus, serve, call, message, stallMs })
        .then((outcome) => {
          if (outcome.error !== undefined) this.#report(call, outcome.error)
          metrics?.handled(contract.name, this.#secondsSince(call.startedMs), outcome.kind)
        })
        .catch((error) => log.error({ actor: this.#actor.name, err: error }, `${contract.name}: could not answer`))
        .finally(() => {
          inFlightCount -= 1
          this.#finish(call)
        })
    }
    this.#subscriptions.push(bus.subscribe(filter, serve.queue === undefined ? {} : { queue: serve.queue }, onMessage))
  }

  #hear({ contract, handler, fixed, queue }: Hear): void {
    const { bus, metrics } = this.#options
    const onMessage = async (message: BusMessage) => {
      if (this.calls.size >= this.#inFlightMax) return this.#overloaded(contract.name, message)
      const call = this.#begin(contract.name, paramsIn(contract, message.subject), newsTimeoutMs, message)
      let outcome: Outcome = 'ok'
      try {
        const { payload } = message
        if (payload.length > contract.bytesMax) throw tooLarge(contract.name, payload.length, contract.bytesMax)
        await handler(contract.value.decode(payload), call)
      } catch (error) {
        outcome = outcomeOf(error)
        this.#report(call, error)
      }
      metrics?.handled(contract.name, this.#secondsSince(call.startedMs), outcome)
      this.#finish(call)
    }
    const filter = subjectFilter(contract, fixed)
    this.#subscriptions.push(
      bus.subscribe(filter, queue === undefined ? {} : { queue }, (message) => void onMessage(message)),
    )
  }

  #every(task: Every): void {
    const { clock, random, metrics } = this.#options
    const waitMs = task.intervalMs * (1 + task.jitter * (2 * random.next() - 1))
    const timer = clock.after(waitMs, () => {
      this.#timers.delete(timer)
      void run()
    })
    this.#timers.add(timer)
    const run = async () => {
      const startedMs = clock.monotonic()
      this.#everyAtWork += 1
      let outcome: Outcome = 'ok'
      try {
        await task.fn(this.#ending.signal)
      } catch (error) {
        outcome = outcomeOf(error)
        this.#options.log.error({ actor: this.#actor.name, err: error }, `${task.doc}: ${textOf(error)}`)
        if (error instanceof AssertionError) this.#fail(error, task.doc)
      }
      metrics?.handled(`every: ${task.doc}`, this.#secondsSince(startedMs), outcome)
      this.#everyAtWork -= 1
      this.#wakeWhenIdle()
      if (this.state === 'running') this.#every(task)
    }
  }

  #begin(name: string, params: Record<string, string>, timeoutMs: number, message: BusMessage): Call {
    const { headers } = message
    const startedMs = this.#options.clock.monotonic()
    const asked = headers[timeoutHeader]
    const givenMs = asked === undefined ? timeoutMs : Math.min(timeoutMsMax, Math.max(0, Number(asked) || 0))
    const call = new Call({
      name,
      params,
      startedMs,
      deadline: startedMs + givenMs,
      headers,
      requestId: headers[requestIdHeader],
      cancelToken: headers[cancelHeader],
      signs: signsWanted(message, startedMs),
    })
    this.calls.add(call)
    if (call.cancelToken !== undefined) this.#cancellable.set(call.cancelToken, call)
    this.#options.metrics?.inFlight(name, 1)
    this.#sweep ??= this.#options.clock.after(sweepMs, () => this.#abortOverdue())
    return call
  }

  #finish(call: Call): void {
    this.calls.delete(call)
    if (call.cancelToken !== undefined) this.#cancellable.delete(call.cancelToken)
    this.#options.metrics?.inFlight(call.name, -1)
    this.#wakeWhenIdle()
  }

  #wakeWhenIdle(): void {
    if (this.calls.size === 0 && this.#everyAtWork === 0) this.#idle?.()
  }

  /** One timer for all deadlines: they need not be exact, since the asker keeps its own. */
  #abortOverdue(): void {
    this.#sweep = undefined
    const nowMs = this.#options.clock.monotonic()
    for (const call of this.calls) {
      if (nowMs >= call.deadline)
        call.abort(new UnavailableError('bus-timeout', `${call.name}: the deadline has passed`))
      this.#giveSign(call, nowMs)
    }
    if (this.calls.size > 0) this.#sweep = this.#options.clock.after(sweepMs, () => this.#abortOverdue())
  }

  #giveSign({ signs, sign }: Call, nowMs: number): void {
    if (signs === undefined || nowMs - signs.lastMs < signs.everyMs) return
    signs.lastMs = nowMs
    this.#options.bus.publish(signs.to, new Uint8Array(0), sign)
  }

  #overloaded(name: string, message: BusMessage): void {
    const { bus, log, metrics } = this.#options
    metrics?.handled(name, 0, 'overloaded')
    log.debug({ actor: this.#actor.name }, `${name}: overloaded`)
    if (message.replyTo === undefined) return
    const text = `${this.#actor.name} has ${this.calls.size} messages at work already`
    const headers = failureHeaders(new UnavailableError('err-carillon-overloaded', text))
    bus.publish(message.replyTo, new Uint8Array(0), { headers })
  }

  #report(call: Call, error: unknown): void {
    const { log } = this.#options
    const fields = { actor: this.#actor.name, requestId: call.requestId, err: error }
    const isOfFamily = error instanceof CarillonError
    if (isOfFamily || call.isAborted) log.debug(fields, `${call.name}: ${textOf(error)}`)
    else log.error(fields, `${call.name}: ${textOf(error)}`)
    if (error instanceof AssertionError) this.#fail(error, call.name)
  }

  #fail(error: unknown, where: string): void {
    if (this.state === 'failed') return
    this.state = 'failed'
    this.#dropSubscriptions()
    this.#options.log.error({ actor: this.#actor.name, err: error }, `failed: ${where}: ${textOf(error)}`)
    this.#options.onFailed?.(error)
  }

  /** Takes what the server has sent already: it went to this one alone, and its asker would wait for it in vain (ACTOR-3). */
  async #closeSubscriptions(): Promise<void> {
    const subscriptions = this.#subscriptions.splice(0)
    this.#dropSubscriptions()
    const enough = new AbortController()
    const late = sleep(this.#options.clock, onTheWayMsMax, enough.signal).catch(() => undefined) // not late
    await Promise.race([late, Promise.allSettled(subscriptions.map((subscription) => subscription.drain?.()))])
    enough.abort()
    for (const subscription of subscriptions) subscription.stop()
  }

  #dropSubscriptions(): void {
    for (const subscription of this.#subscriptions.splice(0)) subscription.stop()
    for (const timer of this.#timers) timer.cancel()
    this.#timers.clear()
  }

  #secondsSince(startedMs: number): number {
    return (this.#options.clock.monotonic() - startedMs) / 1000
  }
}

function signsWanted({ headers, replyTo }: BusMessage, nowMs: number): Call['signs'] {
  const everyMs = Number(headers[signsHeader])
  return replyTo !== undefined && everyMs > 0 ? { to: replyTo, everyMs, lastMs: nowMs } : undefined
}

export function outcomeOf(error: unknown): Outcome {
  return error instanceof CarillonError ? error.kind : 'internal'
}
