// What stands in the objects of asides: frames of an owner's answer.
import { cbor } from '../../../shared/bus/contract.ts'
import type { BlockOrigin } from '../../../shared/contracts/blocks.ts'
import type { SelectFrame } from '../../../shared/contracts/read.ts'
import type { SegmentRead } from './flush.ts'

export interface AsidePart {
  readonly origin: Extract<BlockOrigin, { kind: 'flush' }>
  readonly frames: SelectFrame[]
}

export const asideParts = cbor<readonly AsidePart[]>()
export const ASIDE_TIMEOUT_MS = 60_000

const OBJECT_BYTES_TARGET = 1024 * 1024

/** Objects of about OBJECT_BYTES_TARGET each: what they hold leans on the strings of those before. */
export async function* encodedParts({ origin, frames }: SegmentRead): AsyncIterable<Uint8Array> {
  let held: SelectFrame[] = []
  let bytes = 0
  for await (const frame of frames) {
    held.push(frame)
    bytes += (frame.chunks?.length ?? 0) + frame.strings.length
    if (bytes < OBJECT_BYTES_TARGET) continue
    yield asideParts.encode([{ origin, frames: held }])
    held = []
    bytes = 0
  }
  if (held.length > 0) yield asideParts.encode([{ origin, frames: held }])
}

/** Frames that lean on each other's strings belong together, whichever objects they came in. At first each part of a segment had strings of its own,
 *  and said its `cut`. */
export function joinedParts(found: readonly AsidePart[]): AsidePart[] {
  const joined = new Map<number | undefined, AsidePart>()
  for (const { origin, frames } of found) {
    const before = joined.get(origin.cut)
    if (before === undefined) joined.set(origin.cut, { origin, frames: [...frames] })
    else before.frames.push(...frames)
  }
  return [...joined.values()]
}
