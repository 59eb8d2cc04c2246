// The tokens of one query as the grammar reads them: one token of lookahead, the context that an unexpected token is
// reported in, and the depth of nesting.
//
// Invariants
//   TOKEN-1  The first mistake found ends the parse. The next token is cut only when the grammar cannot decide without it,
//       so that mistakes are found in Prometheus' order.
//   TOKEN-2  Nothing nests deeper than `nestingMax`: the parse itself cannot overflow the stack, half of which is enough even before anything is compiled.
import type { Position } from '../ast.ts'
import { PromqlError } from '../errors.ts'
import { isSpace } from './characters.ts'
import { Lexer } from './lexer.ts'
import { LiteralError } from './literals.ts'
import { describe, type Token, type TokenKind } from './token.ts'

/** The features that must be switched on, by their names in Prometheus' `--enable-feature`. (Prometheus 3.14 has
 *  duration expressions always on; so have we.) */
export const FEATURES = {
  functions: 'promql-experimental-functions',
  ranges: 'promql-extended-range-selectors',
  fill: 'promql-binop-fill-modifiers',
} as const

export const nestingMax = 250
/** Of a tree, chains of operators included. */
export const depthMax = 500
/** A text is parsed in one go, so it has a bound: of characters, and of tokens. */
export const textLengthMax = 640 * 1024
const tokensMax = 50_000

/** What an unexpected token is reported with: ` in <place>, expected <what>`. */
type Context = string

const CLOSING: ReadonlySet<TokenKind> = new Set(['}', ')', ']', 'number', 'duration'])

export class TokenStream {
  readonly text: string
  readonly bytes: string
  readonly features: ReadonlySet<string>
  readonly patternSizeMax: number
  /** Where the last token that may end an expression ended; a token of lookahead counts. */
  lastClosing = 0
  context: Context = ''
  tokenCount = 0
  readonly #lexer: Lexer
  #ahead: Token | undefined
  #behind: Token | undefined
  #depth = 0

  constructor(text: string, features: ReadonlySet<string>, patternSizeMax: number) {
    this.text = text
    this.patternSizeMax = patternSizeMax
    this.features = features
    if (text.length > textLengthMax) {
      throw new PromqlError(`parse error: expression is longer than ${textLengthMax} characters`, { start: 0, end: 0 })
    }
    this.#lexer = new Lexer(text, (message, start, end) => this.fail(message, { start, end }))
    this.bytes = this.#lexer.bytes
  }

  /** TOKEN-1: cuts one token more than was taken, when the grammar asks for it. */
  peek(): Token {
    if (this.#ahead !== undefined) return this.#ahead
    if (this.#behind !== undefined) {
      this.#ahead = this.#behind
      this.#behind = undefined
      return this.#ahead
    }
    const token = this.#lexer.next()
    this.#ahead = token
    if (++this.tokenCount > tokensMax) this.fail(`expression has more than ${tokensMax} tokens`, token)
    if (CLOSING.has(token.kind)) this.lastClosing = token.end
    return token
  }

  next(): Token {
    const token = this.peek()
    this.#ahead = undefined
    return token
  }

  /** The token after the next one, where a word's meaning depends on it. */
  second(): Token {
    const first = this.next()
    const second = this.peek()
    this.#ahead = first
    this.#behind = second
    return second
  }

  /** The next token when it is of this kind. */
  take(kind: TokenKind): Token | undefined {
    return this.peek().kind === kind ? this.next() : undefined
  }

  expect(kind: TokenKind): Token {
    return this.take(kind) ?? this.unexpected()
  }

  unexpected(context: Context = this.context): never {
    const token = this.peek()
    this.fail(`unexpected ${describe(token)}${context}`, token)
  }

  /** What `read` gives; a wrong literal is reported there. */
  literal<T>(read: () => T, at: Position): T {
    try {
      return read()
    } catch (error) {
      if (error instanceof LiteralError) this.fail(error.message, at)
      throw error
    }
  }

  nested<T>(parse: () => T): T {
    if (++this.#depth > nestingMax) this.tooDeep(this.peek(), nestingMax)
    const result = parse()
    this.#depth--
    return result
  }

  tooDeep(at: Position, levels = depthMax): never {
    this.fail(`expression is nested more than ${levels} levels deep`, at)
  }

  /** Where a call ends whose `)` may no longer be the last one cut: the token of lookahead may be another `)`. */
  endOfCall(): number {
    const lastStart = this.#lexer.lastStart
    if (this.bytes[lastStart] !== ')' || lastStart === 0) return this.lastClosing
    for (let i = lastStart - 1; i > 0; i--) {
      if (this.bytes[i] === ')') return i + 1
      if (!isSpace(this.bytes.charCodeAt(i))) break
    }
    return this.lastClosing
  }

  fail(message: string, { start, end }: Position): never {
    throw new PromqlError(`${this.#place(start)}: parse error: ${message}`, { start, end })
  }

  #place(at: number): string {
    if (this.bytes === '') return 'unknown position'
    const before = this.bytes.slice(0, at)
    const line = before.split('\n').length
    return `${line}:${at - before.lastIndexOf('\n')}`
  }
}
