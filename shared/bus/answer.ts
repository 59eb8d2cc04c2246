// The answering side of a question: takes the request in whatever way it comes, runs the handler, and sends back its reply,
// its frames or its error. The asking side is ask.ts.
import { AssertionError } from '../base/assert.ts'
import { CarillonError, RefusedError, textOf, UnavailableError } from '../base/errors.ts'
import type { Outcome, Serve } from './actor.ts'
import type { Call } from './call.ts'
import { bugCode, failureHeaders } from './failure.ts'
import { cancelledCode, flowHeader, Pipe, tooLarge } from './pipe.ts'
import type { Bus, BusMessage } from './port.ts'

export interface AnswerOptions {
  readonly bus: Bus
  readonly serve: Serve
  readonly call: Call
  readonly message: BusMessage
  readonly stallMs: number | undefined
}

export interface Answered {
  readonly kind: Outcome
  readonly error: unknown
}

/** A frame that waits for the next one, at most: what is larger was cut, so there is a next one. */
const HELD_BYTES_MAX = 256 * 1024
/** Frames that take longer have a pipe, so that both sides hear whether the other one lives. */
const OPEN_AFTER_MS = 50

const ok: Answered = { kind: 'ok', error: undefined }

/** Answers one message. Never rejects because of what the handler or the asker did. */
export async function answer(options: AnswerOptions): Promise<Answered> {
  const answering = new Answering(options)
  try {
    await answering.run()
    return ok
  } catch (error) {
    answering.refuse(error)
    if (options.call.isAborted) return { kind: 'cancelled', error }
    return { kind: error instanceof CarillonError ? error.kind : 'internal', error }
  }
}

class Answering {
  readonly #options: AnswerOptions
  #pipe: Pipe | undefined

  constructor(options: AnswerOptions) {
    this.#options = options
  }

  async run(): Promise<void> {
    const { serve, call } = this.#options
    const payload = await this.#request()
    const request = serve.contract.request.decode(payload)
    if (serve.kind === 'stream') return this.#sendFrames(serve, request)
    const reply = await serve.handler(request, call)
    return this.#sendReply(serve, reply)
  }

  /** Tells the asker what went wrong, by whichever way is open. */
  refuse(error: unknown): void {
    const { bus, message, serve } = this.#options
    const family = error instanceof CarillonError ? error : familyOf(error, serve.contract.name)
    if (this.#pipe !== undefined) this.#pipe.fail(family)
    else if (message.replyTo !== undefined) bus.publish(message.replyTo, noBytes, { headers: failureHeaders(family) })
  }

  async #request(): Promise<Uint8Array> {
    const { serve, message } = this.#options
    const { name, requestBytesMax } = serve.contract
    const [flow, text] = (message.headers[flowHeader] ?? '').split(' ')
    if (flow === '') {
      if (message.payload.length > requestBytesMax) throw tooLarge(name, message.payload.length, requestBytesMax)
      return message.payload
    }
    const bytes = Number(text)
    if (flow !== 'upload' || !(bytes > 0)) throw new RefusedError('err-carillon-bad-message', `${name}: flow "${flow}"`)
    if (bytes > requestBytesMax) throw tooLarge(name, bytes, requestBytesMax)
    const request = await this.#open(requestBytesMax).next()
    if (request === undefined) throw new RefusedError('err-carillon-bad-message', `${name}: the request is empty`)
    return request
  }

  async #sendReply(serve: Serve & { kind: 'reply' }, value: unknown): Promise<void> {
    const { bus, message } = this.#options
    const { name, replyBytesMax } = serve.contract
    const reply = serve.contract.reply.encode(value)
    if (reply.length > replyBytesMax) throw tooLarge(`reply of ${name}`, reply.length, replyBytesMax)
    if (this.#pipe === undefined && reply.length <= bus.payloadBytesMax) {
      if (message.replyTo !== undefined) bus.publish(message.replyTo, reply)
      return
    }
    const pipe = this.#pipe ?? this.#open(0)
    await pipe.send(reply)
    await pipe.end()
  }

  /** A small frame is held back until the next one: when it stays the only one it goes as a plain message, without a pipe. */
  async #sendFrames(serve: Serve & { kind: 'stream' }, request: unknown): Promise<void> {
    const { bus, call, message } = this.#options
    const { frame: codec, frameBytesMax, name } = serve.contract
    const { replyTo } = message
    if (replyTo === undefined) throw withoutReply(name)
    let held: Uint8Array | undefined
    const opening = this.#pipe === undefined ? bus.clock.after(OPEN_AFTER_MS, () => this.#pipeToAsker()) : undefined
    try {
      for await (const frame of serve.handler(request, call)) {
        const bytes = codec.encode(frame)
        if (bytes.length > frameBytesMax) throw tooLarge(`frame of ${name}`, bytes.length, frameBytesMax)
        if (
          held === undefined &&
          this.#pipe === undefined &&
          bytes.length <= Math.min(HELD_BYTES_MAX, bus.payloadBytesMax)
        ) {
          held = bytes
          continue
        }
        const pipe = this.#pipeToAsker()
        if (held !== undefined) await pipe.send(held)
        held = undefined
        await pipe.send(bytes)
      }
    } finally {
      opening?.cancel()
    }
    if (held !== undefined && this.#pipe === undefined) {
      bus.publish(replyTo, held)
      return
    }
    const pipe = this.#pipeToAsker()
    if (pipe.failure !== undefined) throw pipe.failure
    if (held !== undefined) await pipe.send(held)
    await pipe.end()
  }

  #pipeToAsker(): Pipe {
    return this.#pipe ?? this.#open(0)
  }

  /** Offers the asker a pipe; what ends that pipe early ends the call. */
  #open(frameBytesMax: number): Pipe {
    const { bus, serve, call, message, stallMs } = this.#options
    const { name } = serve.contract
    if (message.replyTo === undefined) throw withoutReply(name)
    const pipe = new Pipe({
      bus,
      what: name,
      frameBytesMax,
      ...(stallMs !== undefined && { stallMs }),
      onFailure: (error) => call.abort(error),
    })
    this.#pipe = pipe
    const onAbort = () => {
      const reason: unknown = call.signal.reason
      if (reason instanceof CarillonError && reason.code === cancelledCode) pipe.forsake(reason)
    }
    if (call.isAborted) onAbort()
    else call.signal.addEventListener('abort', onAbort, { once: true })
    call.sign = { headers: { [flowHeader]: 'open' }, replyTo: pipe.inbox } // ACTOR-5
    bus.publish(message.replyTo, noBytes, call.sign)
    return pipe
  }
}

/** A bug. One that ends the actor is not called passing: who asks again would end the next one. */
function familyOf(error: unknown, name: string): CarillonError {
  const text = `${name} failed: ${textOf(error)}`
  if (error instanceof AssertionError) return new RefusedError(bugCode, text, { status: 500, cause: error })
  return new UnavailableError('err-carillon-internal', text, { cause: error })
}

function withoutReply(name: string): RefusedError {
  return new RefusedError('err-carillon-bad-message', `${name}: no reply subject`)
}

const noBytes = new Uint8Array(0)
