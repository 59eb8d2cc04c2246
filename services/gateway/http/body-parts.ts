// Reads a request body in parts of one size, one after the other: the next is read when the one before was taken.
import { RefusedError } from '../../../shared/base/errors.ts'
import type { Exchange } from './exchange.ts'

/** Parts of `partBytes`, the last one shorter. Throws RefusedError when more or fewer bytes than `length` come, and what the connection said
 *  when the client left. */
export async function* readParts(
  { request, signal, continueBody }: Exchange,
  { length, partBytes }: { length: number; partBytes: number },
): AsyncGenerator<Uint8Array> {
  continueBody()
  let part = Buffer.alloc(Math.min(partBytes, length))
  let filled = 0
  let left = length
  for await (const chunk of request.iterator({ destroyOnReturn: false }) as AsyncIterable<Buffer>) {
    signal.throwIfAborted()
    for (let at = 0; at < chunk.length; ) {
      if (left === 0) throw wrongLength(length)
      const count = Math.min(chunk.length - at, part.length - filled)
      chunk.copy(part, filled, at, at + count)
      at += count
      filled += count
      if (filled < part.length) continue
      left -= filled
      yield part
      part = Buffer.alloc(Math.min(partBytes, left))
      filled = 0
    }
  }
  if (left > 0) throw wrongLength(length)
}

function wrongLength(length: number): RefusedError {
  return new RefusedError(
    'err-carillon-upload-length',
    `the body does not have the ${length} bytes that Content-Length says`,
  )
}
