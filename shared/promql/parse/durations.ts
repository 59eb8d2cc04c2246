// Durations where only durations may stand: between brackets and after `offset`. A literal stays a number literal (of
// seconds); anything computed becomes a DurationCall.
import type { DurationCall, DurationValue, NumberLiteral } from '../ast.ts'
import { numberFrom, secondsFrom } from './literals.ts'
import { DURATION, NUMBER, type Token, textOf } from './token.ts'
import { depthMax, type TokenStream } from './token-stream.ts'

type Duration = NumberLiteral | DurationCall
type Operator = '+' | '-' | '*' | '/' | '%' | '^'

const PRECEDENCE: ReadonlyMap<string, number> = new Map([
  ['+', 1],
  ['-', 1],
  ['*', 2],
  ['/', 2],
  ['%', 2],
  ['^', 3],
])
const POWER = 3

/** The greatest number of seconds that 64 bits of nanoseconds hold. */
const secondsMax = 2 ** 63 / 1e9

/** A number or a duration, as a number literal. */
export function parseNumberLiteral(tokens: TokenStream): NumberLiteral {
  const token = tokens.peek()
  if (token.kind !== NUMBER && token.kind !== DURATION) return tokens.unexpected()
  tokens.next()
  const text = textOf(token)
  const isDuration = token.kind === DURATION
  const value = tokens.literal(() => (isDuration ? secondsFrom(text) : numberFrom(text)), token)
  return { kind: 'number', value, isDuration, position: { start: token.start, end: token.end } }
}

/** The range or the step of brackets: more than zero when it is known yet. */
export function parsePositiveDuration(tokens: TokenStream): DurationValue {
  const duration = parseDuration(tokens, 0)
  if (duration.kind === 'number' && duration.value <= 0) {
    tokens.fail('duration must be greater than 0', duration.position)
  }
  return durationValue(duration)
}

/** What follows `offset`. A literal, a sign with a literal, a call and a sign with parentheses end it at once: the
 *  operator after `offset 5m` belongs to the expression; elsewhere it belongs to the duration. */
export function parseOffsetDuration(tokens: TokenStream): DurationValue {
  const first = tokens.peek()
  switch (first.kind) {
    case NUMBER:
    case DURATION:
    case 'step':
    case 'range':
    case 'max_of':
    case 'min_of':
      return durationValue(parsePrimary(tokens))
    case '+':
    case '-':
      return parseSignedOffset(tokens)
    default:
      return durationValue(parseDuration(tokens, 0))
  }
}

function parseSignedOffset(tokens: TokenStream): DurationValue {
  const sign = tokens.next()
  switch (tokens.peek().kind) {
    case NUMBER:
    case DURATION:
      return durationValue(withSign(tokens, sign, parseNumberLiteral(tokens)))
    case 'step':
    case 'range':
    case 'max_of':
    case 'min_of': {
      const call = parseCall(tokens)
      const position = { start: sign.start, end: call.position.end }
      return { kind: 'duration', op: sign.kind as '+' | '-', args: [call], position }
    }
    case '(': {
      tokens.next()
      const inner = parseDuration(tokens, 0)
      tokens.expect(')')
      return durationValue(withSign(tokens, sign, wrapped(inner, inner.position.start)))
    }
    default:
      return durationValue(climb(tokens, withSign(tokens, sign, parseDuration(tokens, POWER)), 0))
  }
}

/** Milliseconds where the duration is known, to the nanosecond. NaN is the least number of nanoseconds, as it becomes
 *  when a float is made a 64-bit integer. */
function durationValue(duration: Duration): DurationValue {
  if (duration.kind !== 'number') return duration
  const ns = Math.round(Math.abs(duration.value) * 1e9)
  if (!(ns < 2 ** 63)) return -(2 ** 63) / 1e6
  return (duration.value < 0 ? -ns : ns) / 1e6
}

function parseDuration(tokens: TokenStream, precedenceMin: number): Duration {
  return tokens.nested(() => climb(tokens, parseUnary(tokens), precedenceMin))
}

function climb(tokens: TokenStream, first: Duration, precedenceMin: number): Duration {
  let left = first
  for (let depth = 1; ; depth++) {
    const operator = tokens.peek()
    const precedence = PRECEDENCE.get(operator.kind)
    if (precedence === undefined || precedence < precedenceMin) return left
    if (depth > depthMax) tokens.tooDeep(operator)
    tokens.next()
    const right = parseDuration(tokens, precedence === POWER ? POWER : precedence + 1)
    if (right.kind === 'number' && right.value === 0) {
      if (operator.kind === '/') tokens.fail('division by zero', operator)
      if (operator.kind === '%') tokens.fail('modulo by zero', operator)
    }
    left = pair(operator.kind as Operator, left, right)
  }
}

function parseUnary(tokens: TokenStream): Duration {
  const sign = tokens.take('+') ?? tokens.take('-')
  if (sign === undefined) return parsePrimary(tokens)
  return withSign(tokens, sign, parseDuration(tokens, POWER))
}

function parsePrimary(tokens: TokenStream): Duration {
  const first = tokens.peek()
  switch (first.kind) {
    case NUMBER:
    case DURATION: {
      const literal = parseNumberLiteral(tokens)
      refuseOutOfRange(tokens, literal, first)
      return literal
    }
    case '(': {
      tokens.next()
      const inner = parseDuration(tokens, 0)
      tokens.expect(')')
      return wrapped(inner, first.start)
    }
    case 'step':
    case 'range':
    case 'max_of':
    case 'min_of':
      return parseCall(tokens)
    default:
      return tokens.unexpected()
  }
}

function parseCall(tokens: TokenStream): DurationCall {
  const name = tokens.next()
  tokens.expect('(')
  if (name.kind === 'step' || name.kind === 'range') {
    const { end } = tokens.expect(')')
    return { kind: 'duration', op: name.kind, args: [], position: { start: name.start, end } }
  }
  const first = parseDuration(tokens, 0)
  tokens.expect(',')
  const second = parseDuration(tokens, 0)
  tokens.expect(')')
  return pair(name.kind === 'max_of' ? 'max' : 'min', first, second)
}

function pair(op: DurationCall['op'], left: Duration, right: Duration): DurationCall {
  const position = { start: left.position.start, end: right.position.end }
  return { kind: 'duration', op, args: [left, right], position }
}

function wrapped(inner: Duration, start: number): DurationCall {
  if (inner.kind === 'duration') return { ...inner, isWrapped: true }
  return { kind: 'duration', op: '+', args: [inner], isWrapped: true, position: { start, end: inner.position.end } }
}

function withSign(tokens: TokenStream, sign: Token, duration: Duration): Duration {
  const position = { start: sign.start, end: duration.position.end }
  if (duration.kind === 'duration') {
    return sign.kind === '-' ? { kind: 'duration', op: '-', args: [duration], position } : duration
  }
  const literal = { ...duration, value: sign.kind === '-' ? -duration.value : duration.value, position }
  refuseOutOfRange(tokens, literal, sign)
  return literal
}

function refuseOutOfRange(tokens: TokenStream, literal: NumberLiteral, at: Token): void {
  if (Math.abs(literal.value) > secondsMax) tokens.fail('duration out of range', at)
}
