// Reads request bodies within bounds.

import { RefusedError } from '../../../shared/base/errors.ts'
import type { Exchange } from './exchange.ts'

export interface BodyBounds {
  readonly bytesMax: number
  /** Hears of every chunk before it is kept; may throw to stop reading. */
  readonly onBytes?: (count: number) => void
}

/** The whole body. Rejects with RefusedError 413 as soon as it is known to be larger than `bytesMax`, without reading on, and with
 *  the signal's reason when the client is gone. */
export async function readBody(exchange: Exchange, { bytesMax, onBytes }: BodyBounds): Promise<Uint8Array> {
  const { request, signal } = exchange
  const declared = Number(request.headers['content-length'] ?? 0)
  if (declared > bytesMax) throw tooLarge(declared, bytesMax)
  exchange.continueBody()
  return await new Promise<Uint8Array>((resolve, reject) => {
    const chunks: Buffer[] = []
    let length = 0
    const settle = (then: () => void) => {
      request.pause()
      request.off('data', onData).off('end', onEnd).off('error', fail)
      signal.removeEventListener('abort', onAbort)
      then()
    }
    const fail = (error: unknown) => settle(() => reject(error))
    const onData = (chunk: Buffer) => {
      length += chunk.length
      if (length > bytesMax) return fail(tooLarge(length, bytesMax))
      try {
        onBytes?.(chunk.length)
      } catch (error) {
        return fail(error)
      }
      chunks.push(chunk)
    }
    const onEnd = () => settle(() => resolve(chunks.length === 1 ? chunks[0]! : Buffer.concat(chunks, length)))
    const onAbort = () => fail(signal.reason)
    if (signal.aborted) return fail(signal.reason)
    signal.addEventListener('abort', onAbort, { once: true })
    request.on('data', onData).on('end', onEnd).on('error', fail)
  })
}

function tooLarge(length: number, bytesMax: number): RefusedError {
  return new RefusedError(
    'err-carillon-body-too-large',
    `received message larger than max (${length} vs ${bytesMax})`,
    {
      status: 413,
    },
  )
}
