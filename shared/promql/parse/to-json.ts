// The tree as `/api/v1/parse_query` answers it. Keys stand in byte order, as Go writes them, so that the JSON text can be
// compared byte by byte.
import type { Matcher } from '../../model/matcher.ts'
import type { AtModifier, Binary, Call, DurationValue, Expr, VectorMatching, VectorSelector } from '../ast.ts'
import { formatPlain } from '../format-float.ts'
import { FUNCTIONS } from './functions.ts'

export type Json = string | number | boolean | null | readonly Json[] | { readonly [key: string]: Json }

export function toJson(expr: Expr): Json {
  switch (expr.kind) {
    case 'aggregation': {
      const { grouping, op, isWithout } = expr
      const param = expr.param === undefined ? null : toJson(expr.param)
      return { expr: toJson(expr.expr), grouping, op, param, type: 'aggregation', without: isWithout }
    }
    case 'binary':
      return binaryJson(expr)
    case 'call':
      return callJson(expr)
    case 'matrix': {
      const { type: _, ...selector } = selectorJson(expr.selector)
      const { range, rangeExpr } = durationJson('range', expr.range)
      return sorted({ ...selector, range: range!, rangeExpr: rangeExpr!, type: 'matrixSelector' })
    }
    case 'subquery': {
      const durations = {
        ...durationJson('offset', expr.offset),
        ...durationJson('range', expr.range),
        ...durationJson('step', expr.step ?? 0),
      }
      return sorted({ expr: toJson(expr.expr), ...durations, ...atJson(expr.at), type: 'subquery' })
    }
    case 'selector':
      return sorted({ ...selectorJson(expr), type: 'vectorSelector' })
    case 'duration':
      return durationExprJson(expr)
    case 'number':
      return { type: 'numberLiteral', val: formatPlain(expr.value) }
    case 'string':
      return { type: 'stringLiteral', val: expr.value.toWellFormed() }
    case 'paren':
      return { expr: toJson(expr.expr), type: 'parenExpr' }
    case 'unary':
      return { expr: toJson(expr.expr), op: expr.op, type: 'unaryExpr' }
  }
}

function binaryJson({ left, right, op, matching, returnBool }: Binary): Json {
  return {
    bool: returnBool,
    lhs: toJson(left),
    matching: matching === undefined ? null : matchingJson(matching),
    op,
    rhs: toJson(right),
    type: 'binaryExpr',
  }
}

function matchingJson({ cardinality, fillLeft, fillRight, include, labels, isOn }: VectorMatching): Json {
  const fillValues = { lhs: fillLeft ?? null, rhs: fillRight ?? null }
  return { card: cardinality, fillValues, include, labels, on: isOn }
}

function callJson({ name, args }: Call): Json {
  const { argTypes, returnType, variadic } = FUNCTIONS.get(name)!
  return { args: args.map(toJson), func: { argTypes, name, returnType, variadic }, type: 'call' }
}

function selectorJson({ name, matchers, offset, at, modifier }: VectorSelector): Record<string, Json> {
  return {
    anchored: modifier === 'anchored',
    matchers: matchers.map(matcherJson),
    name,
    ...durationJson('offset', offset),
    smoothed: modifier === 'smoothed',
    ...atJson(at),
  }
}

function matcherJson({ name, operator, value }: Matcher): Json {
  return { name: name.toWellFormed(), type: operator, value: value.toWellFormed() }
}

/** Whole milliseconds, and the expression where there is one. */
function durationJson(name: string, value: DurationValue): Record<string, Json> {
  if (typeof value === 'number') return { [name]: Math.trunc(value), [`${name}Expr`]: null }
  return { [name]: 0, [`${name}Expr`]: durationExprJson(value) }
}

function durationExprJson(expr: Expr): Json {
  if (expr.kind === 'number') return { duration: expr.isDuration, type: 'numberLiteral', val: formatPlain(expr.value) }
  if (expr.kind !== 'duration') return toJson(expr)
  const { op, args, isWrapped = false } = expr
  const [first, second] = args.map(durationExprJson)
  const [lhs, rhs] = args.length === 2 ? [first!, second!] : [null, first ?? null]
  return { lhs, op: op === 'min' || op === 'max' ? `${op}_of` : op, rhs, type: 'durationExpr', wrapped: isWrapped }
}

function atJson(at: AtModifier | undefined): Record<string, Json> {
  const isTime = at?.kind === 'time'
  return { startOrEnd: at === undefined || isTime ? null : at.kind, timestamp: isTime ? at.timeMs : null }
}

function sorted(record: Record<string, Json>): Json {
  return Object.fromEntries(Object.entries(record).sort(([a], [b]) => (a < b ? -1 : 1)))
}
