// What may follow an expression and binds tightest: ranges and subqueries in brackets, offset, @, anchored, smoothed.
import type {
  AtModifier,
  DurationValue,
  Expr,
  MatrixSelector,
  Position,
  RangeModifier,
  Subquery,
  VectorSelector,
} from '../ast.ts'
import { parseNumberLiteral, parseOffsetDuration, parsePositiveDuration } from './durations.ts'
import { formatFixed } from './go-text.ts'
import { FEATURES, type TokenStream } from './token-stream.ts'

const WANTS_DURATION = 'expected number, duration, step(), or range()'
const IN_OFFSET = ` in offset, ${WANTS_DURATION}`
const IN_RANGE = ` in subquery or range selector, ${WANTS_DURATION}`
const AFTER_RANGE = ' in subquery or range, expected ":" or "]"'
const IN_STEP = ' in subquery selector, expected number, duration, step(), range(), or "]"'
const AFTER_STEP = ' in subquery selector, expected "]"'
const AFTER_AT = ' in @, expected timestamp'

type Movable = VectorSelector | MatrixSelector | Subquery

export function parsePostfix(tokens: TokenStream, first: Expr): Expr {
  let expr = first
  for (;;) {
    const { kind } = tokens.peek()
    if (kind === '[') expr = parseBrackets(tokens, expr)
    else if (kind === 'offset') expr = parseOffset(tokens, expr)
    else if (kind === '@') expr = parseAt(tokens, expr)
    else if (kind === 'anchored' || kind === 'smoothed') expr = parseRangeModifier(tokens, expr, kind)
    else return expr
  }
}

function parseBrackets(tokens: TokenStream, expr: Expr): Expr {
  const open = tokens.next()
  const range = inContext(tokens, IN_RANGE, () => parsePositiveDuration(tokens))
  if (tokens.take(':') === undefined) {
    const close = tokens.take(']') ?? tokens.unexpected(AFTER_RANGE)
    return rangeOf(tokens, expr, range, { start: open.start, end: close.end })
  }
  const isStepGiven = tokens.peek().kind !== ']'
  const step = isStepGiven ? inContext(tokens, IN_STEP, () => parsePositiveDuration(tokens)) : undefined
  const { end } = tokens.take(']') ?? tokens.unexpected(AFTER_STEP)
  const position = { start: expr.position.start, end }
  return { kind: 'subquery', expr, range, step, offset: 0, at: undefined, position }
}

function rangeOf(tokens: TokenStream, expr: Expr, range: DurationValue, brackets: Position): MatrixSelector {
  if (expr.kind !== 'selector') return tokens.fail('ranges only allowed for vector selectors', brackets)
  if (expr.offset !== 0) tokens.fail('no offset modifiers allowed before range', brackets)
  if (expr.at !== undefined) tokens.fail('no @ modifiers allowed before range', brackets)
  const position = { start: expr.position.start, end: brackets.end }
  return { kind: 'matrix', selector: expr, range, position }
}

function parseOffset(tokens: TokenStream, expr: Expr): Expr {
  tokens.next()
  const offset = inContext(tokens, IN_OFFSET, () => parseOffsetDuration(tokens))
  if (!isMovable(expr)) return tokens.fail(`offset ${mustFollow}`, expr.position)
  const { offset: earlier } = expr.kind === 'matrix' ? expr.selector : expr
  if (earlier !== 0) tokens.fail('offset may not be set multiple times', expr.position)
  return moved(expr, { offset }, tokens.lastClosing)
}

const mustFollow = 'modifier must be preceded by an instant vector selector or range vector selector or a subquery'

function parseAt(tokens: TokenStream, expr: Expr): Expr {
  tokens.next()
  const at = inContext(tokens, AFTER_AT, () => parseTime(tokens, expr))
  if (!isMovable(expr)) return tokens.fail(`@ ${mustFollow}`, expr.position)
  const { at: earlier } = expr.kind === 'matrix' ? expr.selector : expr
  if (earlier !== undefined) tokens.fail('@ <timestamp> may not be set multiple times', expr.position)
  return moved(expr, { at }, tokens.lastClosing)
}

function parseTime(tokens: TokenStream, expr: Expr): AtModifier {
  const preprocessor = tokens.take('start') ?? tokens.take('end')
  if (preprocessor !== undefined) {
    tokens.expect('(')
    tokens.expect(')')
    return { kind: preprocessor.kind as 'start' | 'end' }
  }
  const sign = tokens.take('-') ?? tokens.take('+')
  const { value } = parseNumberLiteral(tokens)
  const seconds = sign?.kind === '-' ? -value : value
  if (!(Math.abs(seconds) < 2 ** 63)) {
    tokens.fail(`timestamp out of bounds for @ modifier: ${formatFixed(seconds)}`, expr.position)
  }
  const ms = Math.round(Math.abs(seconds) * 1000)
  if (ms >= 2 ** 63) return { kind: 'time', timeMs: -(2 ** 63) } // as a float overflows a 64-bit integer
  return { kind: 'time', timeMs: seconds < 0 ? -ms : ms }
}

function parseRangeModifier(tokens: TokenStream, expr: Expr, modifier: RangeModifier): Expr {
  tokens.next()
  const { position } = expr
  if (!tokens.features.has(FEATURES.ranges))
    tokens.fail(`${modifier} modifier is experimental and not enabled`, position)
  if (expr.kind === 'subquery') tokens.fail(`${modifier} modifier is not supported for subqueries`, position)
  if (expr.kind !== 'selector' && expr.kind !== 'matrix')
    return tokens.fail(`${modifier} modifier not implemented`, position)
  const { modifier: earlier } = expr.kind === 'matrix' ? expr.selector : expr
  if (earlier !== undefined && earlier !== modifier) {
    tokens.fail('anchored and smoothed modifiers cannot be used together', position)
  }
  return moved(expr, { modifier }, position.end)
}

function isMovable(expr: Expr): expr is Movable {
  return expr.kind === 'selector' || expr.kind === 'matrix' || expr.kind === 'subquery'
}

/** A range's offset, time and modifier are those of its selector. */
function moved(
  expr: Movable,
  change: { offset?: DurationValue; at?: AtModifier; modifier?: RangeModifier },
  end: number,
): Expr {
  const position = { start: expr.position.start, end }
  if (expr.kind === 'matrix') return { ...expr, selector: { ...expr.selector, ...change }, position }
  return { ...expr, ...change, position }
}

function inContext<T>(tokens: TokenStream, context: string, parse: () => T): T {
  const outer = tokens.context
  tokens.context = context
  const result = parse()
  tokens.context = outer
  return result
}
