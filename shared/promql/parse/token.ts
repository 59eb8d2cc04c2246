// The words of PromQL: what kinds of token there are and how an error names one.
import { decodeBytes, quote } from './go-text.ts'

/** An operator, keyword or bracket stands for itself in lower case (`+`, `sum`, `{`); the other kinds are the words below. */
export type TokenKind = string

export const IDENTIFIER = 'identifier'
export const METRIC_IDENTIFIER = 'metric identifier'
export const STRING = 'string literal'
export const NUMBER = 'number'
export const DURATION = 'duration'
export const END_OF_INPUT = 'end of input'

export interface Token {
  readonly kind: TokenKind
  /** Byte offsets into the query. */
  readonly start: number
  readonly end: number
  /** As written, one character a byte. */
  readonly bytes: string
}

export const AGGREGATORS: ReadonlySet<TokenKind> = new Set(
  'avg bottomk count count_values group max min quantile stddev stdvar sum topk limitk limit_ratio'.split(' '),
)

export const AGGREGATORS_WITH_PARAM: ReadonlySet<string> = new Set(
  'topk bottomk count_values quantile limitk limit_ratio'.split(' '),
)

export const EXPERIMENTAL_AGGREGATORS: ReadonlySet<string> = new Set(['limitk', 'limit_ratio'])

export const COMPARISONS: ReadonlySet<string> = new Set(['==', '!=', '<', '<=', '>', '>='])

export const SET_OPERATORS: ReadonlySet<string> = new Set(['and', 'or', 'unless'])

export const MATCH_OPERATORS: ReadonlySet<TokenKind> = new Set(['=', '!=', '=~', '!~'])

const OPERATORS: ReadonlySet<TokenKind> = new Set(
  '+ / == =~ >= > </ >/ and or < <= unless % * != !~ ^ - @ atan2'.split(' '),
)

const MODIFIERS: ReadonlySet<TokenKind> = new Set(
  'bool by group_left group_right fill fill_left fill_right ignoring offset smoothed anchored on without'.split(' '),
)

/** Words that open a call when `(` follows, besides plain identifiers. */
export const CALL_WORDS: ReadonlySet<TokenKind> = new Set('start end step range max_of min_of'.split(' '))

/** Every word that the lexer does not take for a plain identifier. */
export const RESERVED: ReadonlySet<string> = new Set([
  ...[...OPERATORS].filter((operator) => /^[a-z]/.test(operator)),
  ...AGGREGATORS,
  ...MODIFIERS,
  ...CALL_WORDS,
])

/** Tokens that may stand where a metric name is wanted. */
export const METRIC_NAMES: ReadonlySet<TokenKind> = new Set([
  IDENTIFIER,
  METRIC_IDENTIFIER,
  ...AGGREGATORS,
  ...CALL_WORDS,
  ...'by fill fill_left fill_right and or unless offset without anchored smoothed'.split(' '),
])

/** Tokens that may stand where a label name is wanted, between the parentheses of `by`, `on`, `group_left`. */
export const GROUPING_LABELS: ReadonlySet<TokenKind> = new Set([
  ...[...RESERVED].filter((word) => word !== 'without'),
  IDENTIFIER,
  METRIC_IDENTIFIER,
])

/** Tokens that an expression may begin with. */
export const EXPRESSION_STARTS: ReadonlySet<TokenKind> = new Set([
  ...METRIC_NAMES,
  ...['{', '(', '+', '-', NUMBER, DURATION, STRING],
])

export function textOf(token: Token): string {
  return decodeBytes(token.bytes)
}

/** The token as an "unexpected …" message names it. */
export function describe(token: Token): string {
  if (token.kind === END_OF_INPUT) return END_OF_INPUT
  const text = textOf(token)
  switch (token.kind) {
    case IDENTIFIER:
    case METRIC_IDENTIFIER:
      return `${token.kind} ${quote(text)}`
    case STRING:
      return `string ${shortened(token, text)}`
    case NUMBER:
    case DURATION:
      return `${token.kind} ${shortened(token, text)}`
  }
  if (MODIFIERS.has(token.kind)) return `<${text}>`
  if (OPERATORS.has(token.kind)) return `<op:${text}>`
  if (AGGREGATORS.has(token.kind)) return `<aggr:${text}>`
  return shortened(token, text)
}

function shortened(token: Token, text: string): string {
  return token.bytes.length > 10 ? `${quote([...text].slice(0, 10).join(''))}...` : quote(text)
}
