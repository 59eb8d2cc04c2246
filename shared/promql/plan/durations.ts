// Durations that are written as expressions (`[step() * 2]`), computed once the query's range and step are known.
import type { DurationValue, Expr } from '../ast.ts'
import { ExecutionError } from '../exec/errors.ts'
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
  if (!Number.isFinite(seconds)) throw new ExecutionError(`${at}: duration is NaN or infinite`)
  if (seconds <= 0 && !mayBeNegative) throw new ExecutionError(`${at}: duration must be greater than 0`)
  if (Math.abs(seconds) > SECONDS_MAX) throw new ExecutionError(`${at}: duration is out of range`)
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
      const at = `${expr.position.start}:${expr.position.end}`
      if (expr.op === 'step') return times.stepMs / 1000
      if (expr.op === 'range') return (times.endMs - times.startMs) / 1000
      if (right === undefined) return expr.op === '-' ? -left : left
      return combine(expr.op, left, right, at)
    }
    default:
      throw new ExecutionError(`unexpected duration expression type ${expr.kind}`)
  }
}

function combine(
  op: 'min' | 'max' | '+' | '-' | '*' | '/' | '%' | '^',
  left: number,
  right: number,
  at: string,
): number {
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
      if (right === 0) throw new ExecutionError(`${at}: division by zero`)
      return left / right
    case '%':
      if (right === 0) throw new ExecutionError(`${at}: modulo by zero`)
      return left % right
    case '^':
      return power(left, right)
  }
}
