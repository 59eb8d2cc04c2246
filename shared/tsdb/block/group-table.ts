// The sampled half of a table of the index: where each group of entries stands, and its checksum, so that a group that is read later is
// checked though the table's own checksum covers more than that.
import { crc32c } from '../../wire/crc32c.ts'
import { grownF64, grownU32 } from '../chunk/growth.ts'
import { corruptAt, INDEX_FILE } from './files.ts'
import type { Piece } from './ranges.ts'

export class GroupTable {
  private starts = new Float64Array(16)
  private crcs = new Uint32Array(16)
  count = 0
  /** Where the last group ends. */
  end = 0

  /** Begins a group at a position of the index. */
  begin(position: number): void {
    if (this.count === this.starts.length) {
      this.starts = grownF64(this.starts, this.count + 1)
      this.crcs = grownU32(this.crcs, this.count + 1)
    }
    this.starts[this.count++] = position
  }

  /** Takes bytes [from, to) as the next of the group begun last. */
  add(bytes: Uint8Array, from: number, to: number): void {
    this.crcs[this.count - 1] = crc32c(bytes, from, to, this.crcs[this.count - 1])
  }

  /** No group follows. */
  finish(end: number): void {
    this.end = end
    this.starts = this.starts.slice(0, this.count)
    this.crcs = this.crcs.slice(0, this.count)
  }

  startOf(group: number): number {
    return this.starts[group]!
  }

  endOf(group: number): number {
    return group + 1 < this.count ? this.starts[group + 1]! : this.end
  }

  /** Throws CorruptError unless the piece holds the group as it was. */
  check(group: number, { base, bytes }: Piece): void {
    const from = this.startOf(group) - base
    if (crc32c(bytes, from, this.endOf(group) - base) === this.crcs[group]) return
    throw corruptAt(INDEX_FILE, this.startOf(group), 'a part of a table does not match its checksum')
  }

  get bytes(): number {
    return this.starts.byteLength + this.crcs.byteLength
  }
}
