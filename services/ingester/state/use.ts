// Who reads what will be given back one day.
import { UnavailableError } from '../../../shared/base/errors.ts'

export class Use {
  /** Nobody begins any more. */
  isOver = false
  private readonly free: () => void
  private readerCount = 0
  private readonly wasFreed = Promise.withResolvers<void>()

  constructor(free: () => void) {
    this.free = free
  }

  /** For whoever reads over awaits: until the returned function is called nothing is freed. */
  reading(): () => void {
    this.assertNotOver()
    this.readerCount++
    let hasEnded = false
    return () => {
      if (hasEnded) return
      hasEnded = true
      if (--this.readerCount === 0 && this.isOver) this.freeNow()
    }
  }

  /** Throws UnavailableError `given-away`. */
  assertNotOver(): void {
    if (this.isOver) throw new UnavailableError('given-away', 'the partition was given away meanwhile')
  }

  /** Resolves when it was freed. */
  end(): Promise<void> {
    this.isOver = true
    if (this.readerCount === 0) this.freeNow()
    return this.wasFreed.promise
  }

  private freeNow(): void {
    this.free()
    this.wasFreed.resolve()
  }
}
