// How far a number or a duration reaches. Whether it is a good one is found out when its value is wanted.
import { isAlphaNumeric } from './characters.ts'
import { DURATION, NUMBER } from './token.ts'

const DECIMAL = '0123456789'
const HEXADECIMAL = '0123456789abcdefABCDEF'

/** Without a kind the text is neither; `end` is how far an error shows it. */
export interface NumberScan {
  readonly kind: typeof NUMBER | typeof DURATION | undefined
  readonly end: number
}

/** At a digit, or at a dot before one; `bytes` has one character a byte. */
export function scanNumber(bytes: string, start: number): NumberScan {
  const scan = new Scan(bytes, start)
  if (scan.number()) return { kind: NUMBER, end: scan.at }
  if (scan.duration()) return { kind: DURATION, end: scan.at }
  return { kind: undefined, end: scan.at }
}

class Scan {
  at: number
  readonly #bytes: string

  constructor(bytes: string, start: number) {
    this.#bytes = bytes
    this.at = start
  }

  number(): boolean {
    let digits = DECIMAL
    if (this.#accept('0') && this.#accept('xX')) {
      this.#accept('_')
      digits = HEXADECIMAL
    }
    this.#accept('.')
    this.#accept(digits)
    let hasDot = false
    let hasExponent = false
    for (;;) {
      if (this.#accept('.')) {
        if (hasDot) return false
        hasDot = true
        if (this.#accept('_.') || digits === HEXADECIMAL) return false
      } else if (this.#accept('eE')) {
        if (hasExponent) return false
        hasExponent = true
        this.#accept('+-')
        if (this.#isCutOff()) return false
      } else if (this.#accept('_')) {
        if (this.#isCutOff()) return false
      } else if (this.#accept(digits)) {
        while (this.#accept(digits)); // in a run of hexadecimal digits an e is a digit
      } else break
    }
    return !isAlphaNumeric(this.#bytes.charCodeAt(this.at))
  }

  /** Goes on where the number could not: at the first unit. A character that cannot follow is taken too, so that an
   *  error shows it. */
  duration(): boolean {
    if (!this.#accept('smhdwy')) return false
    this.#accept('s')
    while (this.#accept(DECIMAL)) {
      while (this.#accept(DECIMAL));
      if (!this.#accept('smhdw')) return false
      this.#accept('s')
    }
    if (!isAlphaNumeric(this.#bytes.charCodeAt(this.at))) return true
    this.at++
    return false
  }

  /** After an exponent or an underscore something must come, and not this. */
  #isCutOff(): boolean {
    return this.#accept('._eE') || this.at >= this.#bytes.length
  }

  #accept(valid: string): boolean {
    const character = this.#bytes[this.at]
    if (character === undefined || !valid.includes(character)) return false
    this.at++
    return true
  }
}
