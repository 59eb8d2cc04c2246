// The label strings of an ingester, each kept once and named by a number. All heads of the ingester share it.
//
// A string stays while a series uses it (`use`, `unuse`); `sweep` drops what nobody uses. Whoever remembers numbers over an await says so
// with `reading`: until it is done, no number that it may have met is given to another string, and their texts can still be read.
//
// Invariants
//   STRING-1  Two strings never have one number at the same time, and not within the time of one reading.
//   STRING-2  A swept string has no number: `find` does not know it, `intern` gives it a new one.
import { assert } from '../../base/assert.ts'
import { grownU32 } from '../chunk/growth.ts'
import { hashText } from '../label-hash.ts'

/** What a string costs beside its characters: the map's entry, the list's slot, the two hash words, the count of uses. */
const ENTRY_BYTES = 76

/** Numbers of one sweep that readings from before it may still hold. */
interface Swept {
  readonly era: number
  readonly texts: Map<number, string>
}

export class StringTable {
  private readonly numbers = new Map<string, number>()
  private readonly texts: (string | undefined)[] = []
  private hashWords = new Uint32Array(128)
  private uses = new Uint32Array(64)
  private charBytes = 0
  private free: number[] = []
  private era = 0
  /** The eras in which the readings under way began, and how many began in each. */
  private readonly readings = new Map<number, number>()
  private swept: Swept[] = []

  /** The string's number, given at first sight. It is the string's own until the next sweep, and longer while it is used. */
  intern(text: string): number {
    const known = this.numbers.get(text)
    if (known !== undefined) return known
    const n = this.free.pop() ?? this.texts.length
    this.numbers.set(text, n)
    this.texts[n] = text
    this.charBytes += text.length
    if (2 * n + 2 > this.hashWords.length) this.hashWords = grownU32(this.hashWords, 2 * n + 2)
    if (n + 1 > this.uses.length) this.uses = grownU32(this.uses, n + 1)
    this.uses[n] = 0
    hashText(text, this.hashWords, 2 * n)
    return n
  }

  /** The string's number if it has one. */
  find(text: string): number | undefined {
    return this.numbers.get(text)
  }

  text(n: number): string {
    return this.texts[n] ?? this.sweptText(n)
  }

  /** STRING-2: whether this still is the number of that string. */
  holds(n: number, text: string): boolean {
    return this.texts[n] === text
  }

  use(n: number): void {
    this.uses[n] = this.uses[n]! + 1
  }

  unuse(n: number): void {
    assert(this.uses[n]! > 0, 'a string is given back once for each use')
    this.uses[n] = this.uses[n]! - 1
  }

  /** STRING-1: numbers that are met from now on until the returned function is called stay readable until then. */
  reading(): () => void {
    const { era } = this
    this.readings.set(era, (this.readings.get(era) ?? 0) + 1)
    let isOver = false
    return () => {
      if (isOver) return
      isOver = true
      const left = this.readings.get(era)! - 1
      if (left > 0) this.readings.set(era, left)
      else this.readings.delete(era)
    }
  }

  /** Drops the strings that no series uses. */
  sweep(): void {
    const texts = new Map<number, string>()
    for (let n = 0; n < this.texts.length; n++) {
      const text = this.texts[n]
      if (text === undefined || this.uses[n] !== 0) continue
      this.numbers.delete(text)
      this.texts[n] = undefined
      this.charBytes -= text.length
      texts.set(n, text)
    }
    if (texts.size > 0) this.swept.push({ era: this.era++, texts })
    const oldest = Math.min(...this.readings.keys())
    const isHeld = ({ era }: Swept) => oldest <= era
    for (const done of this.swept) if (!isHeld(done)) for (const n of done.texts.keys()) this.free.push(n)
    this.swept = this.swept.filter(isHeld)
  }

  /** Two words of hash that depend on the text alone, not on its number. */
  hashA(n: number): number {
    return this.hashWords[2 * n]!
  }

  hashB(n: number): number {
    return this.hashWords[2 * n + 1]!
  }

  /** Above every number given. */
  get count(): number {
    return this.texts.length
  }

  /** An estimate of the memory. */
  get bytes(): number {
    let bytes = this.charBytes + this.texts.length * ENTRY_BYTES
    for (const { texts } of this.swept) bytes += texts.size * ENTRY_BYTES
    return bytes
  }

  private sweptText(n: number): string {
    for (const { texts } of this.swept) {
      const text = texts.get(n)
      if (text !== undefined) return text
    }
    throw new RangeError(`string ${n} was swept`)
  }
}
