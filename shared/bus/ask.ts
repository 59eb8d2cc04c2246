// Asking by contract: one call, whatever the size of question and answer.
//
// What fits one message travels as one message and its answer as another: no handshake, and headers only where something
// is to be said. What does not fit goes through a pipe (pipe.ts), opened by a handshake:
//
//   asker → subject    `Carillon-Flow: upload <bytes>`, or a small request on a streamed contract
//   actor → reply      `Carillon-Flow: open`, its reply subject being where the actor listens
//   asker → actor      `alive`, its reply subject being where the asker listens; then frames either way
//
// A large answer to a small question opens the pipe in the same manner. A streamed answer of one small frame needs none: it comes as a reply.
import { RefusedError, UnavailableError } from '../base/errors.ts'
import type { Contract, Params, Question, StreamQuestion, Topic } from './contract.ts'
import { subjectFor } from './contract.ts'
import { failureIn } from './failure.ts'
import { cancelledCode, flowHeader, Pipe, tooLarge } from './pipe.ts'
import type { Bus, BusHeaders, BusMessage } from './port.ts'

export const requestIdHeader = 'Carillon-Request-Id'
/** Ids come from outside; headers have little room. */
const requestIdLengthMax = 256
export const timeoutHeader = 'Carillon-Timeout-Ms'
/** How often the asker wants to hear that its question is at work. */
export const signsHeader = 'Carillon-Signs-Ms'
export const cancelHeader = 'Carillon-Cancel'
/** Where an asker that gave up says so, the payload being what stood in `Carillon-Cancel`. Every actor listens. */
export const cancelSubject = 'ask.cancel'

/** Nobody waits longer for somebody who says nothing. */
const SILENCE_MS = 10_000

export interface AskOptions {
  /** The contract's own when not given. For a streamed answer: from the question to the last frame. */
  readonly timeoutMs?: number | undefined
  /** On the monotonic clock of the bus; the sooner of the two ends it. */
  readonly deadline?: number | undefined
  readonly signal?: AbortSignal | undefined
  readonly requestId?: string | undefined
  /** Gives up with `bus-silent` when the actor has not been heard for this long. It says that it is at work four times as often, so that
   *  a question or an answer that was lost on the way, in a server that hangs for one, is not waited for until the timeout. When not given:
   *  SILENCE_MS for whatever may take longer than that. */
  readonly silenceMs?: number | undefined
  /** Silence of the other side after which a large or streamed exchange is given up, ms. */
  readonly stallMs?: number | undefined
}

/** One exchange under way: what every step of it needs to know. */
interface Exchange {
  readonly bus: Bus
  readonly contract: Contract<never>
  readonly subject: string
  readonly timeoutMs: number
  /** On the monotonic clock. */
  readonly endsMs: number
  readonly headers: BusHeaders | undefined
  readonly cancelToken: string | undefined
  readonly silenceMs: number | undefined
  readonly options: AskOptions
}

/** Asks and answers. Rejects with the error family member that the other side answered, or with UnavailableError. */
export async function ask<P extends string, Req, Rep>(
  bus: Bus,
  contract: Question<P, Req, Rep>,
  params: Params<P>,
  request: Req,
  options: AskOptions = {},
): Promise<Rep> {
  const exchange = begin(bus, contract, params, options)
  const payload = encoded(contract, contract.request.encode(request), contract.requestBytesMax)
  const { replyBytesMax } = contract
  if (payload.length > bus.payloadBytesMax) {
    const opened = await send(exchange, noBytes, { [flowHeader]: `upload ${payload.length}` })
    return contract.reply.decode(await exchangeFrames(exchange, opened, payload, replyBytesMax))
  }
  const answer = await send(exchange, payload, undefined)
  if (flowOf(answer) === 'open') {
    return contract.reply.decode(await exchangeFrames(exchange, answer, undefined, replyBytesMax))
  }
  if (answer.payload.length > replyBytesMax)
    throw tooLarge(`reply of ${contract.name}`, answer.payload.length, replyBytesMax)
  return contract.reply.decode(answer.payload)
}

/** Asks and yields the frames of the answer as they come. Leaving the loop early cancels the work on the other side. */
export async function* askStream<P extends string, Req, Frame>(
  bus: Bus,
  contract: StreamQuestion<P, Req, Frame>,
  params: Params<P>,
  request: Req,
  options: AskOptions = {},
): AsyncGenerator<Frame, void, undefined> {
  const exchange = begin(bus, contract, params, options)
  const payload = encoded(contract, contract.request.encode(request), contract.requestBytesMax)
  const isLarge = payload.length > bus.payloadBytesMax
  const opened = isLarge
    ? await send(exchange, noBytes, { [flowHeader]: `upload ${payload.length}` })
    : await send(exchange, payload, undefined)
  if (!isLarge && flowOf(opened) === undefined) {
    const { frameBytesMax } = contract
    if (opened.payload.length > frameBytesMax)
      throw tooLarge(`frame of ${contract.name}`, opened.payload.length, frameBytesMax)
    yield contract.frame.decode(opened.payload)
    return
  }
  const line = openLine(exchange, opened, contract.frameBytesMax)
  try {
    if (isLarge) await line.pipe.send(payload)
    for (let frame = await line.pipe.next(); frame !== undefined; frame = await line.pipe.next()) {
      yield contract.frame.decode(frame)
    }
    line.pipe.close()
  } catch (error) {
    throw line.reasonOf(error)
  } finally {
    line.leave()
  }
}

/** Tells the news to whoever listens. Nobody confirms it. */
export function tell<P extends string, T>(bus: Bus, topic: Topic<P, T>, params: Params<P>, value: T): void {
  const subject = subjectFor(topic, params)
  const payload = encoded(topic, topic.value.encode(value), Math.min(topic.bytesMax, bus.payloadBytesMax))
  bus.publish(subject, payload)
}

function begin<P extends string>(
  bus: Bus,
  contract: Contract<P> & { readonly timeoutMs: number },
  params: Params<P>,
  options: AskOptions,
): Exchange {
  options.signal?.throwIfAborted()
  const subject = subjectFor(contract, params)
  const nowMs = bus.clock.monotonic()
  const leftMs = options.deadline === undefined ? Number.POSITIVE_INFINITY : options.deadline - nowMs
  const timeoutMs = Math.min(options.timeoutMs ?? contract.timeoutMs, leftMs)
  const endsMs = nowMs + timeoutMs
  if (timeoutMs <= 0) throw new UnavailableError('bus-timeout', `${contract.name}: no time is left to ask`)
  const headers: Record<string, string> = {}
  if (options.requestId !== undefined) headers[requestIdHeader] = options.requestId.slice(0, requestIdLengthMax)
  if (timeoutMs !== contract.timeoutMs) headers[timeoutHeader] = String(Math.max(1, Math.floor(timeoutMs)))
  const silenceMs = options.silenceMs ?? (timeoutMs > SILENCE_MS ? SILENCE_MS : undefined)
  if (silenceMs !== undefined) headers[signsHeader] = String(Math.ceil(silenceMs / 4))
  const cancelToken = options.signal === undefined ? undefined : bus.inbox()
  if (cancelToken !== undefined) headers[cancelHeader] = cancelToken
  const hasHeaders = Object.keys(headers).length > 0
  const erased = contract as Contract<string> as Contract<never>
  return {
    bus,
    contract: erased,
    subject,
    timeoutMs,
    endsMs,
    headers: hasHeaders ? headers : undefined,
    cancelToken,
    options,
    silenceMs,
  }
}

/** The first message and its answer; a refusal is thrown. */
async function send(exchange: Exchange, payload: Uint8Array, more: BusHeaders | undefined): Promise<BusMessage> {
  const { bus, subject, timeoutMs, cancelToken, options } = exchange
  const headers = more === undefined ? exchange.headers : { ...exchange.headers, ...more }
  let answer: BusMessage
  try {
    answer = await bus.request(subject, payload, {
      timeoutMs,
      silenceMs: exchange.silenceMs,
      ...(headers !== undefined && { headers }),
      ...(options.signal !== undefined && { signal: options.signal }),
    })
  } catch (error) {
    if (cancelToken !== undefined && options.signal?.aborted) bus.publish(cancelSubject, Buffer.from(cancelToken))
    throw error
  }
  const failure = failureIn(answer.headers)
  if (failure !== undefined) throw failure
  return answer
}

interface Line {
  readonly pipe: Pipe
  /** What to throw: the asker's own reason where the asker ended it. */
  reasonOf(error: unknown): unknown
  leave(): void
}

/** The pipe the answer opened, bound to the exchange's deadline and signal. */
function openLine(exchange: Exchange, answer: BusMessage, frameBytesMax: number): Line {
  const { bus, contract, endsMs, timeoutMs, options } = exchange
  if (flowOf(answer) !== 'open' || answer.replyTo === undefined) {
    throw new RefusedError('err-carillon-bad-message', `${contract.name}: the answer opens no stream`)
  }
  const pipe = new Pipe({
    bus,
    what: contract.name,
    peer: answer.replyTo,
    frameBytesMax,
    ...(options.stallMs !== undefined && { stallMs: options.stallMs }),
  })
  const cancelled = () => new UnavailableError(cancelledCode, `${contract.name}: the asker left`)
  const onAbort = () => pipe.cancel(cancelled())
  const timer = bus.clock.after(endsMs - bus.clock.monotonic(), () => {
    const text = `${contract.name}: no whole answer within ${Math.round(timeoutMs)} ms`
    pipe.cancel(new UnavailableError('bus-timeout', text))
  })
  if (options.signal?.aborted) onAbort()
  else options.signal?.addEventListener('abort', onAbort, { once: true })
  return {
    pipe,
    reasonOf: (error) => (options.signal?.aborted ? options.signal.reason : error),
    leave() {
      timer.cancel()
      options.signal?.removeEventListener('abort', onAbort)
      pipe.cancel(cancelled())
    },
  }
}

/** Sends the rest of a large request, if there is one, and takes the whole reply. */
async function exchangeFrames(
  exchange: Exchange,
  opened: BusMessage,
  upload: Uint8Array | undefined,
  replyBytesMax: number,
): Promise<Uint8Array> {
  const line = openLine(exchange, opened, replyBytesMax)
  try {
    if (upload !== undefined) await line.pipe.send(upload)
    const reply = await line.pipe.next()
    if (reply === undefined)
      throw new RefusedError('err-carillon-bad-message', `${exchange.contract.name}: empty answer`)
    line.pipe.close()
    return reply
  } catch (error) {
    throw line.reasonOf(error)
  } finally {
    line.leave()
  }
}

function flowOf(message: BusMessage): string | undefined {
  return message.headers[flowHeader]
}

function encoded(contract: { readonly name: string }, payload: Uint8Array, bytesMax: number): Uint8Array {
  if (payload.length > bytesMax) throw tooLarge(contract.name, payload.length, bytesMax)
  return payload
}

const noBytes = new Uint8Array(0)
