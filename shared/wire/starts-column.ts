// Start times of a batch's samples, one behind the other: 0 unknown, 1 the last known one again, 2 another, as its difference to that.
import { Reader, Writer } from './varint.ts'

const UNKNOWN = 0
const AGAIN = 1
const OTHER = 2

export class StartsColumn {
  private readonly out = new Writer(64)
  private count = 0
  private last = 0

  get length(): number {
    return this.out.length
  }

  reset(): void {
    this.out.reset()
    this.count = 0
    this.last = 0
  }

  /** Of the sample `index`, which rises; those that were left out are unknown. */
  put(index: number, startTime: number): void {
    this.fillTo(index)
    this.count++
    if (startTime === this.last) return this.out.uvarint(AGAIN)
    this.out.uvarint(OTHER)
    this.out.zigzag(startTime - this.last)
    this.last = startTime
  }

  /** The column of `count` samples, a view; undefined when none of them has a start time. */
  finish(count: number): Uint8Array | undefined {
    if (this.count === 0) return undefined
    this.fillTo(count)
    return this.out.view()
  }

  private fillTo(index: number): void {
    for (; this.count < index; this.count++) this.out.uvarint(UNKNOWN)
  }
}

/** Reads what StartsColumn wrote; without a column all are unknown. */
export class StartsReader {
  private readonly reader: Reader | undefined
  private last = 0

  constructor(column: Uint8Array | undefined) {
    if (column !== undefined) this.reader = new Reader(column)
  }

  /** 0: unknown. */
  next(): number {
    const { reader } = this
    if (reader === undefined) return 0
    const code = reader.uvarint()
    if (code === UNKNOWN) return 0
    if (code !== AGAIN) this.last += reader.zigzag()
    return this.last
  }

  /** Throws CorruptError unless all was read. */
  end(): void {
    this.reader?.end('starts')
  }
}
