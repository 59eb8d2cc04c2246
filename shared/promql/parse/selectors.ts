// Selectors: `name{label="value"}`, the matchers in braces, and the regular expressions among them.
import { RE2JSException } from 're2js'
import { METRIC_NAME } from '../../model/labels.ts'
import type { Matcher, MatchOperator } from '../../model/matcher.ts'
import { type ValuePattern, valuePattern } from '../../model/pattern.ts'
import type { VectorSelector } from '../ast.ts'
import { LiteralError, stringFrom } from './literals.ts'
import { IDENTIFIER, MATCH_OPERATORS, METRIC_NAMES, STRING, type Token, textOf } from './token.ts'
import type { TokenStream } from './token-stream.ts'

const WANTS_MATCHER = ' in label matching, expected identifier or "}"'
const WANTS_OPERATOR = ' in label matching, expected label matching operator'
const WANTS_VALUE = ' in label matching, expected string'
const WANTS_COMMA = ' in label matching, expected "," or "}"'

/** At a metric name or at `{`. */
export function parseVectorSelector(tokens: TokenStream): VectorSelector {
  const first = tokens.peek()
  if (first.kind === '{') return parseBraces(tokens)
  if (!METRIC_NAMES.has(first.kind)) return tokens.unexpected()
  tokens.next()
  const name = textOf(first)
  const nameMatcher: Matcher = { name: METRIC_NAME, operator: '=', value: name }
  const bare = plainSelector([nameMatcher], { start: first.start, end: first.end }, name)
  if (tokens.peek().kind !== '{') return bare
  const braces = parseBraces(tokens)
  const position = { start: first.start, end: braces.position.end }
  return plainSelector([...braces.matchers, nameMatcher], position, name)
}

function plainSelector(matchers: readonly Matcher[], position: VectorSelector['position'], name = ''): VectorSelector {
  return { kind: 'selector', name, matchers, offset: 0, at: undefined, modifier: undefined, position }
}

function parseBraces(tokens: TokenStream): VectorSelector {
  const { start } = tokens.next()
  const matchers: Matcher[] = []
  while (tokens.peek().kind !== '}') {
    matchers.push(parseMatcher(tokens))
    if (tokens.peek().kind === '}') break
    if (tokens.take(',') === undefined) tokens.unexpected(WANTS_COMMA)
  }
  const { end } = tokens.next()
  return plainSelector(matchers, { start, end })
}

function parseMatcher(tokens: TokenStream): Matcher {
  const first = tokens.peek()
  if (first.kind !== IDENTIFIER && first.kind !== STRING) tokens.unexpected(WANTS_MATCHER)
  tokens.next()
  const name = first.kind === STRING ? stringFrom(first.bytes) : textOf(first)
  if (!MATCH_OPERATORS.has(tokens.peek().kind)) {
    if (first.kind === STRING) return { name: METRIC_NAME, operator: '=', value: name }
    tokens.unexpected(WANTS_OPERATOR)
  }
  const operator = tokens.next().kind as MatchOperator
  if (tokens.peek().kind !== STRING) tokens.unexpected(WANTS_VALUE)
  const last = tokens.next()
  const matcher: Matcher = { name, operator, value: stringFrom(last.bytes) }
  if (operator === '=~' || operator === '!~') checkPattern(tokens, matcher.value, first, last)
  return matcher
}

function checkPattern(tokens: TokenStream, pattern: string, first: Token, last: Token): void {
  tokens.literal(() => compile(pattern, tokens.patternSizeMax), { start: first.start, end: last.end })
}

function compile(pattern: string, sizeMax?: number): ValuePattern {
  try {
    return valuePattern(pattern, sizeMax)
  } catch (error) {
    // Go quotes the part at fault even where it is empty.
    if (error instanceof RE2JSException) {
      throw new LiteralError(error.message.endsWith('`') ? error.message : `${error.message}: \`\``)
    }
    throw error
  }
}

/** True when the matcher accepts an absent label. */
export function matchesEmpty({ operator, value }: Matcher): boolean {
  switch (operator) {
    case '=':
      return value === ''
    case '!=':
      return value !== ''
    case '=~':
      return compile(value).matches('')
    case '!~':
      return !compile(value).matches('')
  }
}
