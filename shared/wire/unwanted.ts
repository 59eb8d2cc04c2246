// Two labels that make a series unwanted, whatever else it has: those of a replica that is not elected. Readers of remote write look
// for their bytes before anything else of a series, and step over it when both are there. Hot kernel.
//
// Labels are expected in the order of their names, as senders are to sort them. In another order, or in another coding, a series is
// merely not recognised here, and told as any other.
import { RegionBuilder } from './label-region.ts'
import { cursor, readLength } from './protobuf.ts'

export interface UnwantedLabels {
  /** In the order of their names' bytes. */
  readonly first: SoughtLabel
  readonly second: SoughtLabel
}

export interface SoughtLabel {
  /** A region of this one label. */
  readonly region: Uint8Array
  /** The same by fours, little-endian. The last four overlap those before where they must. */
  readonly words: Int32Array
}

export type LabelText = readonly [name: string, value: string]

export function unwantedLabels(one: LabelText, other: LabelText): UnwantedLabels {
  const isInOrder = Buffer.compare(Buffer.from(one[0]), Buffer.from(other[0])) < 0
  const [first, second] = isInOrder ? [one, other] : [other, one]
  return { first: sought(first), second: sought(second) }
}

/** Remote write 1.0: where the labels of the series at `start` end, when both are among them; else −1. `view` shows the same bytes. */
export function unwantedEnd(
  bytes: Uint8Array,
  view: DataView,
  start: number,
  end: number,
  { first, second }: UnwantedLabels,
): number {
  let next: SoughtLabel | undefined = first
  let length = first.region.length
  let at = start
  while (at + 1 < end && bytes[at] === 0x0a) {
    const size = bytes[at + 1]!
    const labelEnd = size < 128 ? at + 2 + size : readLength(bytes, at + 1, end) + cursor.at
    if (labelEnd > end) return -1
    if (labelEnd - at === length && next !== undefined && standsAt(view, at, next)) {
      next = next === first ? second : undefined
      length = second.region.length
    }
    at = labelEnd
  }
  return next === undefined ? at : -1
}

function standsAt(view: DataView, at: number, { region, words }: SoughtLabel): boolean {
  const last = words.length - 1
  for (let i = 0; i < last; i++) if (view.getInt32(at + 4 * i, true) !== words[i]) return false
  return view.getInt32(at + region.length - 4, true) === words[last]
}

const builder = new RegionBuilder()

function sought([name, value]: LabelText): SoughtLabel {
  const text = Buffer.from(name + value)
  const nameLength = Buffer.byteLength(name)
  builder.reset()
  builder.add(text, 0, nameLength, nameLength, text.length)
  const region = builder.bytes.slice(0, builder.length)
  const view = new DataView(region.buffer)
  const words = new Int32Array(Math.ceil(region.length / 4)) // a label has six bytes at least
  for (let i = 0; i < words.length; i++) words[i] = view.getInt32(Math.min(4 * i, region.length - 4), true)
  return { region, words }
}
