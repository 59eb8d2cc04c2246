// What a watch over a bucket has shown. A bucket may come back without its newest writes (a server that lost its end), and a server that is
// asked may only be behind. So a watch that cannot be sure is told all again: what it has shown is not shown twice, and what it is told to be
// older, or not told any more, is in doubt until the bucket itself was asked.
import type { KvEntry } from './port.ts'

interface Shown {
  readonly revision: number
  readonly isGone: boolean
  readonly storing: unknown
}

export class ShownEntries {
  /** Bound: the keys of the bucket. */
  readonly #shown = new Map<string, Shown>()
  /** While all is told again: the keys that were, as they were shown or newer. */
  #again: Set<string> | undefined

  /** What stands there is told from the beginning. */
  begin(): void {
    this.#again = new Set()
  }

  /** Whether an entry is to be shown. `storing` tells one storing of a key from any other, also where revisions are given again. */
  isNews({ key, value, revision }: KvEntry, storing: unknown): boolean {
    const before = this.#shown.get(key)
    if (this.#again !== undefined && before !== undefined && revision < before.revision) return false
    this.#again?.add(key)
    if (before?.storing === storing) return false
    const isGone = value === undefined
    if (revision === 0) this.#shown.delete(key)
    else this.#shown.set(key, { revision, isGone, storing })
    if (!isGone || before?.isGone === false) return true
    return this.#again === undefined && revision > 0 // who never knew it misses nothing
  }

  /** When all was told again: the keys of which it was not told that what was shown stands, or something newer. */
  doubtful(): string[] {
    const again = this.#again
    return again === undefined ? [] : [...this.#shown.keys()].filter((key) => !again.has(key))
  }

  /** Doubts are settled: by what stands there, read since. */
  end(): void {
    this.#again = undefined
  }
}
