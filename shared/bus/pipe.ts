// Two private inboxes and rules between them: how everything that does not fit one message travels, requests, replies
// and streamed answers alike.
//
// Invariants
//   PIPE-1  Data messages are numbered and the end states their count: a lost message is an error, never a gap.
//   PIPE-2  A sender has at most `windowBytesMax` (and one message) on the way that the receiver has not granted. What a
//       receiver holds back from reading stops the sender, across the network.
//   PIPE-3  Each side speaks at least every third of the stall limit. A side that hears nothing for all of it gives up. What it could not have heard, because
//       this very process stood still, is no silence: thirds are counted, each of them with a turn in which messages come.
//   PIPE-4  Either side can end it early: the answering side by an error, the asking side by cancelling.
//
// Kinds of message, in the header `Carillon-Flow`: `part n` a piece of a frame, `frame n` its last piece, `end n`,
// `credit total-bytes`, `alive`, `cancel`, `failed` (with the headers of failure.ts). `open` and `upload bytes` belong to the
// handshake, in ask.ts and actor.ts.

import { present } from '../base/assert.ts'
import type { Timer } from '../base/clock.ts'
import { type CarillonError, RefusedError, UnavailableError } from '../base/errors.ts'
import { failureHeaders, failureIn } from './failure.ts'
import { type Bus, type BusMessage, type BusSubscription, statusHeader } from './port.ts'

export const flowHeader = 'Carillon-Flow'
export const tooLargeCode = 'err-carillon-too-large'
export const cancelledCode = 'err-carillon-cancelled'

export const partBytesMax = 256 * 1024
export const windowBytesMax = 1024 * 1024
export const stallMsDefault = 10_000
const STALL_PERIODS = 3
/** A frame costs at least this much credit, so that empty frames are bounded as well. */
const frameBytesMin = 256

export function tooLarge(what: string, bytes: number, bytesMax: number): RefusedError {
  return new RefusedError(tooLargeCode, `${what} of ${bytes} bytes is larger than ${bytesMax}`, { status: 413 })
}

export interface PipeOptions {
  readonly bus: Bus
  /** For the text of errors. */
  readonly what: string
  /** Where the other side listens; the answering side learns it from the first message. */
  readonly peer?: string
  readonly frameBytesMax: number
  readonly stallMs?: number
  /** Once, when it ends early, whatever the reason. */
  readonly onFailure?: (error: CarillonError) => void
}

interface Waiter {
  readonly resolve: () => void
  readonly reject: (error: Error) => void
}

export class Pipe {
  readonly inbox: string
  readonly #bus: Bus
  readonly #what: string
  readonly #frameBytesMax: number
  readonly #stallMs: number
  readonly #onFailure: ((error: CarillonError) => void) | undefined
  readonly #subscription: BusSubscription
  readonly #headersWithPeer: boolean
  #peer: string | undefined
  #phase: 'open' | 'closed' = 'open'
  #failure: CarillonError | undefined
  #farewell: CarillonError | undefined
  #timer: Timer | undefined
  #saidMs: number
  /** Thirds of the stall limit that ended without a message. */
  #silentCount = 0

  #sentCount = 0
  #sentBytes = 0
  #grantedBytes = windowBytesMax
  #writer: Waiter | undefined

  #receivedCount = 0
  #receivedBytes = 0
  #takenBytes = 0
  #announcedBytes = windowBytesMax
  #parts: Uint8Array[] = []
  #partsBytes = 0
  /** Of the frame that is coming, what is not granted again: the reader has whole frames left to take. */
  #heldBytes = 0
  #frames: { readonly bytes: Uint8Array; readonly heldBytes: number }[] = []
  #isEnded = false
  #reader: Waiter | undefined

  constructor(options: PipeOptions) {
    const { bus } = options
    this.#bus = bus
    this.#what = options.what
    this.#peer = options.peer
    this.#headersWithPeer = options.peer !== undefined
    this.#frameBytesMax = options.frameBytesMax
    this.#stallMs = options.stallMs ?? stallMsDefault
    this.#onFailure = options.onFailure
    this.inbox = bus.inbox()
    this.#saidMs = bus.clock.monotonic()
    this.#subscription = bus.subscribe(this.inbox, {}, (message) => this.#hear(message))
    if (this.#peer !== undefined) this.#say('alive') // tells the other side where we listen
    this.#watch()
  }

  get failure(): CarillonError | undefined {
    return this.#failure
  }

  /** Sends one frame, in pieces where it must be; resolves when the last piece is on its way. */
  async send(frame: Uint8Array): Promise<void> {
    const pieceBytesMax = Math.min(partBytesMax, this.#bus.payloadBytesMax)
    let at = 0
    do {
      while (this.#sentBytes >= this.#grantedBytes || this.#peer === undefined) await this.#wait('writer')
      this.#check()
      const piece = frame.subarray(at, at + pieceBytesMax)
      at += piece.length
      const kind = at < frame.length ? 'part' : 'frame'
      this.#sentBytes += Math.max(frameBytesMin, piece.length)
      this.#say(`${kind} ${this.#sentCount++}`, piece)
    } while (at < frame.length)
  }

  /** No more frames from this side, which stops listening: all that is left is on the way to the reader. */
  async end(): Promise<void> {
    while (this.#peer === undefined) await this.#wait('writer')
    this.#check()
    this.#say(`end ${this.#sentCount}`)
    this.close()
  }

  /** The next whole frame, undefined after the last one. */
  async next(): Promise<Uint8Array | undefined> {
    while (this.#frames.length === 0) {
      this.#check()
      if (this.#isEnded) return undefined
      await this.#wait('reader')
    }
    const frame = present(this.#frames.shift(), 'frame')
    this.#grant(frame.heldBytes)
    if (this.#frames.length === 0) this.#grantHeld()
    return frame.bytes
  }

  /** Ends it early from the asking side. */
  cancel(reason: CarillonError): void {
    if (this.#phase === 'open') this.#say('cancel')
    this.#fail(reason)
  }

  /** Ends it early from the answering side: the other side is told why, as soon as it is known where it listens. */
  fail(error: CarillonError): void {
    if (this.#phase === 'closed') return
    if (this.#peer === undefined) {
      this.#farewell = error
      return
    }
    this.#abandon(error)
  }

  /** The other side will not come any more: whoever waits for it waits no longer. */
  forsake(reason: CarillonError): void {
    if (this.#peer === undefined) this.#fail(reason)
  }

  close(): void {
    if (this.#phase === 'closed') return
    this.#phase = 'closed'
    this.#timer?.cancel()
    this.#subscription.stop()
  }

  #hear(message: BusMessage): void {
    if (this.#phase === 'closed') return
    if (message.headers[statusHeader] !== undefined) {
      this.#hearNobodyThere()
      return
    }
    this.#silentCount = 0
    if (this.#peer === undefined && message.replyTo !== undefined) {
      this.#peer = message.replyTo
      if (this.#farewell !== undefined) {
        this.fail(this.#farewell)
        return
      }
      this.#wake('writer')
    }
    const [kind, text] = (message.headers[flowHeader] ?? '').split(' ')
    const number = Number(text)
    if (kind === 'part' || kind === 'frame') this.#take(kind, number, message.payload)
    else if (kind === 'end') this.#takeEnd(number)
    else if (kind === 'credit') this.#takeCredit(number)
    else if (kind === 'cancel') this.#fail(new UnavailableError(cancelledCode, `${this.#what} was cancelled`))
    else if (kind === 'failed') {
      this.#fail(failureIn(message.headers) ?? new UnavailableError('err-carillon-internal', `${this.#what} failed`))
    }
  }

  /** The server knows before the stall limit does. How far the other side got is as unknown as after a timeout. */
  #hearNobodyThere(): void {
    if (!this.#isEnded) this.#fail(new UnavailableError('bus-timeout', `${this.#what}: the other side is gone`))
  }

  #take(kind: 'part' | 'frame', number: number, payload: Uint8Array): void {
    if (number < this.#receivedCount) return // said twice
    const bytes = Math.max(frameBytesMin, payload.length)
    const wrong = this.#wrongWith(number, bytes, payload.length)
    if (wrong !== undefined) {
      this.#abandon(wrong)
      return
    }
    this.#receivedCount += 1
    this.#receivedBytes += bytes
    this.#partsBytes += payload.length
    this.#parts.push(payload)
    this.#heldBytes += bytes
    if (kind === 'part') {
      // A frame may be larger than the window: while it is the next one to be read, the rest of it must come.
      if (this.#frames.length === 0) this.#grantHeld()
      return
    }
    const whole = this.#parts.length === 1 ? payload : Buffer.concat(this.#parts, this.#partsBytes)
    this.#frames.push({ bytes: whole, heldBytes: this.#heldBytes })
    this.#parts = []
    this.#partsBytes = 0
    this.#heldBytes = 0
    this.#wake('reader')
  }

  #wrongWith(number: number, bytes: number, payloadBytes: number): CarillonError | undefined {
    if (number !== this.#receivedCount) return this.#lost(`message ${this.#receivedCount}`) // PIPE-1
    if (this.#receivedBytes + bytes > this.#announcedBytes + partBytesMax) {
      return new RefusedError('err-carillon-bad-message', `${this.#what}: more was sent than granted`)
    }
    const frameBytes = this.#partsBytes + payloadBytes
    return frameBytes > this.#frameBytesMax ? tooLarge(this.#what, frameBytes, this.#frameBytesMax) : undefined
  }

  #takeEnd(count: number): void {
    if (count !== this.#receivedCount || this.#parts.length > 0) {
      this.#abandon(this.#lost(`the end of ${count} messages`))
      return
    }
    this.#isEnded = true
    this.#timer?.cancel() // nothing more will come, however long reading takes
    this.#wake('reader')
  }

  #takeCredit(total: number): void {
    if (!(total > this.#grantedBytes)) return
    this.#grantedBytes = total
    this.#wake('writer')
  }

  #grantHeld(): void {
    const bytes = this.#heldBytes
    this.#heldBytes = 0
    this.#grant(bytes)
  }

  #grant(bytes: number): void {
    this.#takenBytes += bytes
    const granted = this.#takenBytes + windowBytesMax
    if (granted - this.#announcedBytes < windowBytesMax / 4 || this.#phase === 'closed' || this.#isEnded) return
    this.#announcedBytes = granted
    this.#say(`credit ${granted}`)
  }

  #lost(what: string): UnavailableError {
    return new UnavailableError('bus-lost-message', `${this.#what}: ${what} was lost on the way`)
  }

  /** Something is wrong with what came: both sides learn of it. */
  #abandon(error: CarillonError): void {
    if (this.#headersWithPeer) {
      this.cancel(error)
      return
    }
    if (this.#peer !== undefined) this.#publish('failed', noBytes, failureHeaders(error))
    this.#fail(error)
  }

  #fail(error: CarillonError): void {
    if (this.#phase === 'closed' || this.#failure !== undefined) return
    this.#failure = error
    this.close()
    this.#reader?.reject(error)
    this.#writer?.reject(error)
    this.#onFailure?.(error)
  }

  #check(): void {
    if (this.#failure !== undefined) throw this.#failure
    if (this.#phase === 'closed') throw new UnavailableError(cancelledCode, `${this.#what} is over`)
  }

  #wait(side: 'reader' | 'writer'): Promise<void> {
    this.#check()
    return new Promise((resolve, reject) => {
      const waiter = { resolve, reject }
      if (side === 'reader') this.#reader = waiter
      else this.#writer = waiter
    })
  }

  #wake(side: 'reader' | 'writer'): void {
    const waiter = side === 'reader' ? this.#reader : this.#writer
    if (side === 'reader') this.#reader = undefined
    else this.#writer = undefined
    waiter?.resolve()
  }

  #watch(): void {
    const periodMs = this.#stallMs / STALL_PERIODS
    this.#timer = this.#bus.clock.after(periodMs, () => {
      const nowMs = this.#bus.clock.monotonic()
      if (this.#silentCount++ === STALL_PERIODS) {
        const text = `${this.#what}: nothing heard from the other side for ${this.#stallMs} ms`
        if (this.#farewell === undefined) this.#abandon(new UnavailableError('bus-timeout', text))
        else this.#fail(this.#farewell) // nobody came to hear it
        return
      }
      if (nowMs - this.#saidMs >= periodMs * 0.9) this.#say('alive')
      this.#watch()
    })
  }

  #say(kind: string, payload: Uint8Array = noBytes): void {
    this.#publish(kind, payload, undefined)
  }

  #publish(kind: string, payload: Uint8Array, more: Readonly<Record<string, string>> | undefined): void {
    if (this.#peer === undefined) return
    this.#saidMs = this.#bus.clock.monotonic()
    const headers = { [flowHeader]: kind, ...more }
    // Only the asking side must say where it listens.
    this.#bus.publish(this.#peer, payload, this.#headersWithPeer ? { headers, replyTo: this.inbox } : { headers })
  }
}

const noBytes = new Uint8Array(0)
