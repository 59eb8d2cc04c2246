// What stands in the objects of asides: frames of an owner's answer, by the part of the segment that they are of.
import { cbor } from '../../shared/bus/contract.ts'
import type { SelectFrame } from '../../shared/contracts/read.ts'
import type { FlushOrigin } from './flush-build.ts'

export interface AsidePart {
  readonly origin: FlushOrigin
  readonly frames: SelectFrame[]
}

export const asideParts = cbor<readonly AsidePart[]>()
export const ASIDE_TIMEOUT_MS = 60_000

const OBJECT_BYTES_TARGET = 1024 * 1024

/** Objects of about OBJECT_BYTES_TARGET each. */
export async function* encodedParts(
  read: AsyncIterable<{ readonly origin: FlushOrigin; readonly frames: AsyncIterable<SelectFrame> }>,
): AsyncIterable<Uint8Array> {
  let held: AsidePart[] = []
  let bytes = 0
  for await (const { origin, frames } of read) {
    held.push({ origin, frames: [] })
    for await (const frame of frames) {
      held.at(-1)!.frames.push(frame)
      bytes += (frame.chunks?.length ?? 0) + frame.strings.length
      if (bytes < OBJECT_BYTES_TARGET) continue
      yield asideParts.encode(held)
      held = [{ origin, frames: [] }]
      bytes = 0
    }
  }
  if (held.some(({ frames }) => frames.length > 0)) yield asideParts.encode(held)
}

/** Frames of one part lean on the strings of those before: they belong together, whichever objects they came in. */
export function joinedParts(found: readonly AsidePart[]): AsidePart[] {
  const joined = new Map<number | undefined, AsidePart>()
  for (const { origin, frames } of found) {
    const before = joined.get(origin.cut)
    if (before === undefined) joined.set(origin.cut, { origin, frames: [...frames] })
    else before.frames.push(...frames)
  }
  return [...joined.values()]
}
