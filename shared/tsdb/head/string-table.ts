// The label strings of an ingester, each kept once and named by a number. All heads of the ingester share it.
//
// Nothing leaves the table while the process lives; the limits on series and on label lengths bound it.
import { grownU32 } from '../chunk/growth.ts'
import { hashText } from '../label-hash.ts'

/** What a string costs beside its characters: the map's entry, the list's slot, the two hash words. */
const ENTRY_BYTES = 72

export class StringTable {
  private readonly numbers = new Map<string, number>()
  private readonly texts: string[] = []
  private hashWords = new Uint32Array(128)
  private charBytes = 0

  /** The string's number, given at first sight: 0, 1, 2, … */
  intern(text: string): number {
    const known = this.numbers.get(text)
    if (known !== undefined) return known
    const n = this.texts.length
    this.numbers.set(text, n)
    this.texts.push(text)
    this.charBytes += text.length
    if (2 * n + 2 > this.hashWords.length) this.hashWords = grownU32(this.hashWords, 2 * n + 2)
    hashText(text, this.hashWords, 2 * n)
    return n
  }

  /** The string's number if it has one. */
  find(text: string): number | undefined {
    return this.numbers.get(text)
  }

  text(n: number): string {
    return this.texts[n]!
  }

  /** Two words of hash that depend on the text alone, not on its number. */
  hashA(n: number): number {
    return this.hashWords[2 * n]!
  }

  hashB(n: number): number {
    return this.hashWords[2 * n + 1]!
  }

  get count(): number {
    return this.texts.length
  }

  /** An estimate of the memory. */
  get bytes(): number {
    return this.charBytes + this.texts.length * ENTRY_BYTES
  }
}
