// Start times beside the samples of a chunk, as Prometheus writes them in encodings 4 to 6 (docs/formats/chunk.md): nothing until the
// first sample whose start time is another than that of the one before, from then on a difference for each.
//
// A start time is that of what a sample counts, in milliseconds; 0: unknown. It and the samples' times stay within ±2^51.
import type { BitReader, BitWriter } from './bits.ts'

/** In the header's byte: the first sample has a start time; below it the index of the first sample that changes it, 0: none does. */
const FIRST_KNOWN = 0x80
/** What the header can say: this sample has its difference in any case. */
const INDEX_MAX = 0x7f

export class StartsWriter {
  header = 0
  private start = 0
  /** From the start time to the time of the sample before. */
  private gap = 0

  /** Behind the sample `index`, which `before` is the time of the sample before. */
  put(writer: BitWriter, index: number, time: number, before: number, start: number): void {
    if (index === 0) {
      if (start !== 0) {
        writer.varint(time - start)
        this.header = FIRST_KNOWN
      }
    } else if ((this.header & INDEX_MAX) !== 0) {
      const gap = before - start
      writer.varbitInt(gap - this.gap)
      this.gap = gap
    } else if (start !== this.start || index === INDEX_MAX) {
      this.gap = before - start
      writer.varbitInt(this.gap)
      this.header |= index
    }
    this.start = start
  }
}

export class StartsReader {
  private readonly header: number
  private gap = 0
  /** Of the sample that was read last. */
  start = 0

  constructor(header: number) {
    this.header = header
  }

  read(reader: BitReader, index: number, time: number, before: number): void {
    const first = this.header & INDEX_MAX
    if (index === 0) {
      if ((this.header & FIRST_KNOWN) !== 0) this.start = time - reader.varint()
    } else if (first !== 0 && index >= first) {
      this.gap += reader.varbitInt()
      this.start = before - this.gap
    }
  }
}
