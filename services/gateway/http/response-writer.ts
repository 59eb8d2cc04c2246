// Writes an answer out, whole or in pieces, as fast as its client reads (DOOR-2, DOOR-3).
import { once } from 'node:events'
import type { IncomingMessage, ServerResponse } from 'node:http'
import type { Clock } from '../../../shared/base/clock.ts'
import { textOf } from '../../../shared/base/errors.ts'
import type { Answer } from './exchange.ts'
import type { Failures } from './failures.ts'

/** How much is read, and for how long, of what nobody wants any more. */
const DRAIN_BYTES_MAX = 1024 * 1024
export const DRAIN_MS_MAX = 1000

export interface ResponseWriterDeps {
  readonly clock: Clock
  readonly failures: Failures
  readonly answerStallMs: number
}

export class ResponseWriter {
  readonly #clock: Clock
  readonly #failures: Failures
  readonly #answerStallMs: number

  constructor({ clock, failures, answerStallMs }: ResponseWriterDeps) {
    this.#clock = clock
    this.#failures = failures
    this.#answerStallMs = answerStallMs
  }

  /** Whether the whole answer was handed to the system. */
  async send(
    request: IncomingMessage,
    response: ServerResponse,
    answer: Answer,
    signal: AbortSignal,
  ): Promise<boolean> {
    if (signal.aborted || request.socket.destroyed) return false
    const { status, headers, body = '', stream } = answer
    const length = lengthOf(answer)
    const isUnread = !request.complete // DOOR-2
    this.#cutWhoDoesNotRead(request, response)
    response.writeHead(status, {
      ...headers,
      ...(status === 204 || length === undefined ? {} : { 'Content-Length': length }),
      ...(isUnread ? { Connection: 'close' } : {}),
    })
    if (stream !== undefined && request.method !== 'HEAD') await this.#pipe(stream.chunks, response, signal)
    else if (isUnread && request.method !== 'HEAD') {
      if (body.length > 0) response.write(body)
      else response.flushHeaders()
      await this.#drained(request)
      response.end()
    } else response.end(body)
    return await isWritten(response, signal)
  }

  #cutWhoDoesNotRead(request: IncomingMessage, response: ServerResponse): void {
    const watchReader = () => request.socket.setTimeout(this.#answerStallMs)
    if (response.socket === null)
      response.once('socket', watchReader) // an earlier request of this connection is still at work
    else watchReader()
  }

  /** DOOR-3: what fails halfway ends the connection. */
  async #pipe(chunks: AsyncIterable<Uint8Array>, response: ServerResponse, signal: AbortSignal): Promise<void> {
    try {
      for await (const chunk of chunks) {
        signal.throwIfAborted()
        if (!response.write(chunk)) await once(response, 'drain', { signal })
      }
      response.end()
    } catch (error) {
      if (!signal.aborted) this.#failures.warn({ reason: textOf(error) }, 'an answer broke off')
      response.destroy()
    }
  }

  #drained(request: IncomingMessage): Promise<void> {
    if (request.complete || request.destroyed) return Promise.resolve()
    return new Promise((resolve) => {
      let count = 0
      const timer = this.#clock.after(DRAIN_MS_MAX, done)
      function done(): void {
        timer.cancel()
        request.pause()
        resolve()
      }
      request.on('data', (chunk: Buffer) => {
        count += chunk.length
        if (count > DRAIN_BYTES_MAX) done()
      })
      request.once('end', done).once('close', done).once('error', done).resume()
    })
  }
}

function lengthOf({ body = '', stream }: Answer): number | undefined {
  if (stream !== undefined) return stream.length
  return typeof body === 'string' ? Buffer.byteLength(body) : body.length
}

function isWritten(response: ServerResponse, signal: AbortSignal): Promise<boolean> {
  return new Promise((resolve) => {
    if (response.writableFinished || signal.aborted) return resolve(response.writableFinished)
    response.once('finish', () => resolve(true))
    signal.addEventListener('abort', () => resolve(response.writableFinished), { once: true })
  })
}
