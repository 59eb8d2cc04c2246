// A walk over series of a head that may be interrupted: when the head forgets dead series meanwhile, it goes on with the new refs.
import { DEAD } from './series-table.ts'

export class RefCursor {
  private refs: Uint32Array
  private at = 0
  private readonly onClose: () => void

  constructor(refs: Uint32Array, onClose: () => void) {
    this.refs = refs
    this.onClose = onClose
  }

  /** The next ref, −1 at the end. */
  next(): number {
    return this.at < this.refs.length ? this.refs[this.at++]! : -1
  }

  /** What is left is named by its new refs; dead series held nothing to be read. */
  compact(refs: Uint32Array): void {
    this.refs = this.refs
      .subarray(this.at)
      .map((ref) => refs[ref]!)
      .filter((ref) => ref !== DEAD)
    this.at = 0
  }

  close(): void {
    this.onClose()
  }
}
