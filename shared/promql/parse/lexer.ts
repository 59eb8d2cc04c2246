// Cuts a query into tokens. It works on bytes (one character a byte), because positions count bytes; a code point
// above U+007F is decoded only where an error names it.
//
// Invariants
//   LEXER-1  A token is cut only when it is asked for: which of two mistakes is reported depends on it.
//   LEXER-2  What may stand between brackets, and between braces, is not what may stand outside, and after the first number
//       between brackets the outer rules hold again (so `[5m:1m]` and `[5m + 1m]` are cut by both).
import { digitOf, isAlpha, isAlphaNumeric, isDigit, isSpace } from './characters.ts'
import { encodeBytes, quote, quoteRune, runeAt, runeName } from './go-text.ts'
import { scanNumber } from './number-scan.ts'
import { END_OF_INPUT, IDENTIFIER, METRIC_IDENTIFIER, NUMBER, RESERVED, STRING, type Token } from './token.ts'

const COMMENT = 'comment'

const END = -1
const REPLACEMENT = 0xfffd
const DURATION_WORDS: ReadonlySet<string> = new Set(['step', 'range', 'max_of', 'min_of'])
const FILL_WORDS: ReadonlySet<string> = new Set(['fill', 'fill_left', 'fill_right'])

export type Fail = (message: string, start: number, end: number) => never

export class Lexer {
  readonly bytes: string
  /** Where the token that was cut last begins. */
  lastStart = 0
  readonly #fail: Fail
  #at = 0
  #start = 0
  #state: 'outside' | 'duration' | 'ended' = 'outside'
  #parenDepth = 0
  #isBraceOpen = false
  #isBracketOpen = false
  #hasColon = false
  #hasDuration = false

  constructor(text: string, fail: Fail) {
    this.bytes = encodeBytes(text)
    this.#fail = fail
  }

  /** LEXER-1: the next token, comments left out; the end of input again and again. Throws through `fail`. */
  next(): Token {
    for (;;) {
      const token = this.#step()
      if (token === undefined || token.kind === COMMENT) continue
      this.lastStart = token.start
      return token
    }
  }

  #step(): Token | undefined {
    if (this.#state === 'ended') return this.#emit(END_OF_INPUT)
    if (this.#state === 'duration') return this.#inDuration()
    return this.#isBraceOpen ? this.#inBraces() : this.#outside()
  }

  #outside(): Token | undefined {
    if (this.bytes[this.#at] === '#') return this.#comment()
    const c = this.#advance()
    if (c === END) return this.#end()
    if (isSpace(c)) return this.#skipSpaces()
    if (isDigit(c) || (c === 0x2e && isDigit(this.#peek()))) return this.#numberOrDuration()
    if (isAlpha(c) || c === 0x3a) return this.#isBracketOpen ? this.#wordInBrackets(c) : this.#word()
    switch (String.fromCharCode(c)) {
      case ',':
      case '*':
      case '/':
      case '%':
      case '+':
      case '-':
      case '^':
      case '@':
        return this.#emit(String.fromCharCode(c))
      case '=':
        if (this.#peek() === 0x7e) this.#error(`unexpected character after '=': '~'`)
        return this.#emitWith('=', ['='])
      case '!': {
        const next = this.#advance()
        if (next !== 0x3d) this.#error(`unexpected character after '!': ${quoteRune(this.#lastRune(next))}`)
        return this.#emit('!=')
      }
      case '<':
        return this.#emitWith('<', ['=', '/'])
      case '>':
        return this.#emitWith('>', ['=', '/'])
      case '"':
      case "'":
        return this.#string(c)
      case '`':
        return this.#rawString()
    }
    return this.#bracket(c)
  }

  #bracket(c: number): Token | undefined {
    switch (String.fromCharCode(c)) {
      case '(':
        return this.#openParen()
      case ')':
        return this.#closeParen()
      case '{':
        this.#isBraceOpen = true
        return this.#emit('{')
      case '[':
        if (this.#isBracketOpen) this.#error("unexpected left bracket '['")
        this.#hasColon = false
        this.#isBracketOpen = true
        this.#state = 'duration'
        return this.#emit('[')
      case ']':
        if (!this.#isBracketOpen) this.#error("unexpected right bracket ']'")
        this.#isBracketOpen = false
        return this.#emit(']')
    }
    return this.#error(`unexpected character: ${quoteRune(this.#lastRune(c))}`)
  }

  #end(): Token | undefined {
    if (this.#parenDepth !== 0) this.#error('unclosed left parenthesis')
    if (this.#isBracketOpen) this.#error('unclosed left bracket')
    this.#state = 'ended'
    return this.#emit(END_OF_INPUT)
  }

  #inBraces(): Token | undefined {
    if (this.bytes[this.#at] === '#') return this.#comment()
    const c = this.#advance()
    if (c === END) this.#error('unexpected end of input inside braces')
    if (isSpace(c)) return this.#skipSpaces()
    if (isAlpha(c)) {
      while (isAlphaNumeric(this.#peek())) this.#advance()
      return this.#emit(IDENTIFIER)
    }
    switch (String.fromCharCode(c)) {
      case ',':
        return this.#emit(',')
      case '"':
      case "'":
        return this.#string(c)
      case '`':
        return this.#rawString()
      case '=':
        return this.#emitWith('=', ['~'])
      case '!': {
        const next = this.#advance()
        if (next === 0x7e) return this.#emit('!~')
        if (next === 0x3d) return this.#emit('!=')
        return this.#error(`unexpected character after '!' inside braces: ${quoteRune(this.#lastRune(next))}`)
      }
      case '{':
        return this.#error("unexpected left brace '{'")
      case '}':
        this.#isBraceOpen = false
        return this.#emit('}')
    }
    return this.#error(`unexpected character inside braces: ${quoteRune(this.#lastRune(c))}`)
  }

  #inDuration(): Token | undefined {
    const c = this.#advance()
    if (c === END) this.#error('unexpected end of input in duration expression')
    if (isSpace(c)) return this.#skipSpaces()
    if (isDigit(c) || (c === 0x2e && isDigit(this.#peek()))) {
      this.#hasDuration = true
      this.#state = 'outside' // LEXER-2
      return this.#numberOrDuration()
    }
    switch (String.fromCharCode(c)) {
      case ']':
        this.#isBracketOpen = false
        this.#hasColon = false
        this.#state = 'outside'
        return this.#emit(']')
      case ':': {
        const token = this.#emit(':')
        if (!this.#hasDuration) this.#error('unexpected colon before duration in duration expression')
        if (this.#hasColon) this.#error('unexpected repeated colon in duration expression')
        this.#hasColon = true
        return token
      }
      case '(':
        return this.#openParen()
      case ')':
        return this.#closeParen()
      case '+':
      case '-':
      case '*':
      case '/':
      case '%':
      case '^':
      case ',':
        return this.#emit(String.fromCharCode(c))
    }
    return (
      this.#durationWord(c) ??
      this.#error(`unexpected character in duration expression: ${quoteRune(this.#lastRune(c))}`)
    )
  }

  #wordInBrackets(c: number): Token | undefined {
    if (c === 0x3a) {
      if (this.#hasColon) this.#error("unexpected colon ':'")
      this.#hasColon = true
      return this.#emit(':')
    }
    return this.#durationWord(c) ?? this.#error(`unexpected character: ${quoteRune(c)}, expected ':'`)
  }

  /** step, range, max_of or min_of, when the word that begins with `c` is one. */
  #durationWord(c: number): Token | undefined {
    if (!'srm'.includes(String.fromCharCode(c).toLowerCase())) return undefined
    while (isAlpha(this.#peek())) this.#advance()
    const word = this.bytes.slice(this.#start, this.#at).toLowerCase()
    return DURATION_WORDS.has(word) ? this.#emit(word) : undefined
  }

  #openParen(): Token | undefined {
    this.#parenDepth++
    return this.#emit('(')
  }

  #closeParen(): Token | undefined {
    const token = this.#emit(')')
    this.#parenDepth--
    return this.#parenDepth < 0 ? this.#error("unexpected right parenthesis ')'") : token
  }

  #comment(): Token | undefined {
    for (let c = this.#peek(); c !== END && c !== 0x0a && c !== 0x0d; c = this.#peek()) this.#at++
    return this.#emit(COMMENT)
  }

  #word(): Token | undefined {
    while (isAlphaNumeric(this.#peek()) || this.#peek() === 0x3a) this.#advance()
    const word = this.bytes.slice(this.#start, this.#at)
    const kind = word.toLowerCase()
    if (kind === 'inf' || kind === 'nan') return this.#emit(NUMBER)
    if (RESERVED.has(kind) && !(FILL_WORDS.has(kind) && !this.#isBeforeParen())) return this.#emit(kind)
    return this.#emit(word.includes(':') ? METRIC_IDENTIFIER : IDENTIFIER)
  }

  /** `fill` and its kin are names of metrics unless `(` follows. */
  #isBeforeParen(): boolean {
    let at = this.#at
    while (at < this.bytes.length && isSpace(this.bytes.charCodeAt(at))) at++
    return this.bytes[at] === '('
  }

  #string(mark: number): Token {
    for (;;) {
      const c = this.#advance()
      if (c === mark) return this.#emit(STRING)
      if (c === END || c === 0x0a) this.#error('unterminated quoted string')
      if (c === 0x5c) this.#escape(mark)
      else this.#refuseReplacement(c)
    }
  }

  #rawString(): Token {
    for (;;) {
      const c = this.#advance()
      if (c === 0x60) return this.#emit(STRING)
      if (c === END) this.#error('unterminated raw string')
      this.#refuseReplacement(c)
    }
  }

  /** The text came as Unicode, so bytes that were no UTF-8 are replacement characters by now. */
  #refuseReplacement(c: number): void {
    if (c === 0xef && this.#lastRune(c) === REPLACEMENT) this.#error('invalid UTF-8 rune')
  }

  #escape(mark: number): void {
    let c = this.#advance()
    if (c === mark || (c !== END && 'abfnrtv\\'.includes(String.fromCharCode(c)))) return
    let [count, base, valueMax] = [3, 8, 255]
    if (c === 0x78) [count, base, valueMax] = [2, 16, 255]
    else if (c === 0x75) [count, base, valueMax] = [4, 16, 0x10ffff]
    else if (c === 0x55) [count, base, valueMax] = [8, 16, 0x10ffff]
    else if (c === END) this.#error('escape sequence not terminated')
    else if (c < 0x30 || c > 0x37) this.#error(`unknown escape sequence ${runeName(this.#lastRune(c))}`)
    if (base === 16) c = this.#advance()
    let value = 0
    for (let i = 0; i < count; i++) {
      if (i > 0) c = this.#advance()
      const digit = digitOf(c)
      if (digit >= base) {
        if (c === END) this.#error('escape sequence not terminated')
        this.#error(`illegal character ${runeName(this.#lastRune(c))} in escape sequence`)
      }
      value = value * base + digit
    }
    if (value > valueMax || (value >= 0xd800 && value < 0xe000)) {
      this.#error('escape sequence is an invalid Unicode code point')
    }
  }

  #numberOrDuration(): Token {
    const { kind, end } = scanNumber(this.bytes, this.#start)
    if (kind === undefined) {
      return this.#error(`bad number or duration syntax: ${quote(this.bytes.slice(this.#start, end))}`)
    }
    this.#at = end
    return this.#emit(kind)
  }

  #skipSpaces(): undefined {
    while (isSpace(this.#peek())) this.#advance()
    this.#start = this.#at
    return undefined
  }

  #peek(): number {
    return this.#at < this.bytes.length ? this.bytes.charCodeAt(this.#at) : END
  }

  #advance(): number {
    return this.#at < this.bytes.length ? this.bytes.charCodeAt(this.#at++) : END
  }

  /** The code point whose first byte `c` was read last. */
  #lastRune(c: number): number {
    return c < 0x80 ? c : runeAt(this.bytes, this.#at - 1).rune
  }

  /** `first`, or `first` with one of `seconds` when that follows. */
  #emitWith(first: string, seconds: readonly string[]): Token {
    const second = this.bytes[this.#at]
    if (second === undefined || !seconds.includes(second)) return this.#emit(first)
    this.#advance()
    return this.#emit(first + second)
  }

  #emit(kind: string): Token {
    const token = { kind, start: this.#start, end: this.#at, bytes: this.bytes.slice(this.#start, this.#at) }
    this.#start = this.#at
    return token
  }

  #error(message: string): never {
    return this.#fail(message, this.#start, this.bytes.length)
  }
}
