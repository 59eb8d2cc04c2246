// A column of places (shared/model/place.ts): where what a batch states again was first told. One each for the rows of another column.
import type { Place } from '../model/place.ts'
import { Reader, Writer } from './varint.ts'

export class PlacesReader {
  private readonly reader: Reader | undefined

  /** @param column undefined or empty: nothing is stated again */
  constructor(column: Uint8Array | undefined) {
    this.reader = column === undefined || column.length === 0 ? undefined : new Reader(column)
  }

  /** Of the next row; undefined where the batch states nothing again. Throws CorruptError. */
  next(): Place | undefined {
    const { reader } = this
    if (reader === undefined) return undefined
    const place = { incarnation: reader.text(), segment: reader.uvarint(), seq: reader.uvarint() }
    reader.check('places')
    return place
  }
}

export class PlacesWriter {
  private readonly writer = new Writer(256)

  add({ incarnation, segment, seq }: Place): void {
    this.writer.text(incarnation)
    this.writer.uvarint(segment)
    this.writer.uvarint(seq)
  }

  finish(): Uint8Array {
    return this.writer.finish()
  }
}
