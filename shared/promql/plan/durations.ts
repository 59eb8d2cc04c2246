// Durations that are written as expressions (`[step() * 2]`), computed once the query's range and step are known.
import type { DurationValue, Expr, Position } from '../ast.ts'
import { PromqlError } from '../errors.ts'
import { power } from '../functions/go-math.ts'

const SECONDS_MAX = 2 ** 63 / 1e9

/** Milliseconds. Ranges and steps must be positive; offsets need not be. */
export function durationMs(
  value: DurationValue,
  times: { startMs: number; endMs: number; stepMs: number },
  mayBeNegative: boolean,
): number {
  if (typeof value === 'number') return value
  const seconds = secondsOf(value, times)
  const at = `${value.position.start}:${value.position.end}`
  if (!Number.isFinite(seconds)) throw new PromqlError(`${at}: duration is NaN or infinite`, value.position)
  if (seconds <= 0 && !mayBeNegative) throw new PromqlError(`${at}: duration must be greater than 0`, value.position)
  if (Math.abs(seconds) > SECONDS_MAX) throw new PromqlError(`${at}: duration is out of range`, value.position)
  return Math.trunc(seconds * 1000)
}

function secondsOf(expr: Expr, times: { startMs: number; endMs: number; stepMs: number }): number {
  switch (expr.kind) {
    case 'number':
      return expr.value
    case 'paren':
      return secondsOf(expr.expr, times)
    case 'unary': {
      const value = secondsOf(expr.expr, times)
      return expr.op === '-' ? -value : value
    }
    case 'duration': {
      const [left = 0, right] = expr.args.map((arg) => secondsOf(arg, times))
      if (expr.op === 'step') return times.stepMs / 1000
      if (expr.op === 'range') return (times.endMs - times.startMs) / 1000
      if (right === undefined) return expr.op === '-' ? -left : left
      return combine(expr.op, { left, right, position: expr.position })
    }
    default:
      throw new PromqlError(`unexpected duration expression type ${expr.kind}`, expr.position)
  }
}

function combine(
  op: 'min' | 'max' | '+' | '-' | '*' | '/' | '%' | '^',
  { left, right, position }: { left: number; right: number; position: Position },
): number {
  const at = `${position.start}:${position.end}`
  switch (op) {
    case 'min':
      return Math.min(left, right)
    case 'max':
      return Math.max(left, right)
    case '+':
      return left + right
    case '-':
      return left - right
    case '*':
      return left * right
    case '/':
      if (right === 0) throw new PromqlError(`${at}: division by zero`, position)
      return left / right
    case '%':
      if (right === 0) throw new PromqlError(`${at}: modulo by zero`, position)
      return left % right
    case '^':
      return power(left, right)
  }
}
