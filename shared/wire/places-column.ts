// A column of places (shared/model/place.ts): where what a batch states again was first told, one each for the rows of another column. A place is
// told by what differs from the one before.
import type { Place } from '../model/place.ts'
import { Reader, Writer } from './varint.ts'

const NOWHERE: Place = { incarnation: '', segment: 0, seq: 0 }
const SAME_LIFE = 0
const OTHER_LIFE = 1

export class PlacesReader {
  private readonly reader: Reader | undefined
  private last = NOWHERE

  /** @param column undefined or empty: nothing is stated again */
  constructor(column: Uint8Array | undefined) {
    this.reader = column === undefined || column.length === 0 ? undefined : new Reader(column)
  }

  /** Of the next row; undefined where the batch states nothing again. Throws CorruptError. */
  next(): Place | undefined {
    const { reader, last } = this
    if (reader === undefined) return undefined
    const incarnation = reader.uvarint() === SAME_LIFE ? last.incarnation : reader.text()
    this.last = { incarnation, segment: last.segment + reader.zigzag(), seq: last.seq + reader.zigzag() }
    reader.check('places')
    return this.last
  }
}

export class PlacesWriter {
  private readonly writer = new Writer(256)
  private last = NOWHERE

  get length(): number {
    return this.writer.length
  }

  add(place: Place): void {
    const { writer, last } = this
    const isSame = place.incarnation === last.incarnation
    writer.uvarint(isSame ? SAME_LIFE : OTHER_LIFE)
    if (!isSame) writer.text(place.incarnation)
    writer.zigzag(place.segment - last.segment)
    writer.zigzag(place.seq - last.seq)
    this.last = place
  }

  finish(): Uint8Array {
    return this.writer.finish()
  }
}
