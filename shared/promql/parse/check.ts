// The types of a parsed tree: what may stand where, in Prometheus' order of checks and words. Also fills in what only
// the types decide: a matching stays where both sides are vectors, and is many-to-many for set operators.
import { METRIC_NAME } from '../../model/labels.ts'
import type { Aggregation, Binary, Call, Expr, Position, ValueType, VectorMatching, VectorSelector } from '../ast.ts'
import { isSpace } from './characters.ts'
import { FUNCTIONS } from './functions.ts'
import { quote } from './go-text.ts'
import { matchesEmpty } from './selectors.ts'
import { COMPARISONS, SET_OPERATORS } from './token.ts'
import { depthMax, type TokenStream } from './token-stream.ts'

/** The type that an expression evaluates to. */
export function typeOf(expr: Expr): ValueType {
  switch (expr.kind) {
    case 'number':
    case 'duration':
      return 'scalar'
    case 'string':
      return 'string'
    case 'selector':
    case 'aggregation':
      return 'vector'
    case 'matrix':
    case 'subquery':
      return 'matrix'
    case 'call':
      return FUNCTIONS.get(expr.name)!.returnType
    case 'unary':
    case 'paren':
      return typeOf(expr.expr)
    case 'binary':
      return typeOf(expr.left) === 'scalar' && typeOf(expr.right) === 'scalar' ? 'scalar' : 'vector'
  }
}

/** The type as people are told it. */
function documentedType(type: ValueType): string {
  if (type === 'vector') return 'instant vector'
  return type === 'matrix' ? 'range vector' : type
}

export function checkTypes(tokens: TokenStream, expr: Expr): ValueType {
  switch (expr.kind) {
    case 'aggregation':
      return checkAggregation(tokens, expr)
    case 'binary':
      return checkBinary(tokens, expr)
    case 'call':
      return checkCall(tokens, expr)
    case 'paren':
      return checkTypes(tokens, expr.expr)
    case 'unary': {
      const type = checkTypes(tokens, expr.expr)
      if (type === 'scalar' || type === 'vector') return type
      const allowed = 'unary expression only allowed on expressions of type scalar or instant vector'
      return tokens.fail(`${allowed}, got ${quote(documentedType(type))}`, expr.position)
    }
    case 'subquery': {
      const type = checkTypes(tokens, expr.expr)
      if (type !== 'vector')
        tokens.fail(`subquery is only allowed on instant vector, got ${type} instead`, expr.position)
      return 'matrix'
    }
    case 'matrix':
      checkSelector(tokens, expr.selector)
      return 'matrix'
    case 'selector':
      return checkSelector(tokens, expr)
    case 'number':
    case 'string':
    case 'duration':
      return typeOf(expr)
  }
}

function checkAggregation(tokens: TokenStream, { op, expr, param }: Aggregation): ValueType {
  expectType(tokens, expr, 'vector', 'aggregation expression')
  if (param !== undefined) {
    expectType(tokens, param, op === 'count_values' ? 'string' : 'scalar', 'aggregation parameter')
  }
  return 'vector'
}

function expectType(tokens: TokenStream, expr: Expr, wanted: ValueType, place: string): void {
  const type = checkTypes(tokens, expr)
  if (type === wanted) return
  tokens.fail(`expected type ${documentedType(wanted)} in ${place}, got ${documentedType(type)}`, expr.position)
}

function checkBinary(tokens: TokenStream, expr: Binary): ValueType {
  const left = checkTypes(tokens, expr.left)
  const right = checkTypes(tokens, expr.right)
  const isComparison = COMPARISONS.has(expr.op)
  const areScalars = left === 'scalar' && right === 'scalar'
  if (expr.returnBool && !isComparison) {
    tokens.fail('bool modifier can only be used on comparison operators', operatorPosition(tokens, expr))
  }
  if (isComparison && !expr.returnBool && areScalars) {
    tokens.fail('comparisons between scalars must use BOOL modifier', operatorPosition(tokens, expr))
  }
  const matching = expr.matching!
  const twice = matching.isOn && matching.labels.find((label) => matching.include.includes(label))
  if (typeof twice === 'string') {
    const message = `label ${quote(twice)} must not occur in ON and GROUP clause at once`
    tokens.fail(message, operatorPosition(tokens, expr))
  }
  for (const [type, side] of [
    [left, expr.left],
    [right, expr.right],
  ] as const) {
    if (type === 'scalar' || type === 'vector') continue
    tokens.fail('binary expression must contain only scalar and instant vector types', side.position)
  }
  const areVectors = left === 'vector' && right === 'vector'
  setMatching(expr, areVectors ? vectorMatching(tokens, expr, matching) : noMatching(tokens, expr, matching))
  return areScalars ? 'scalar' : 'vector'
}

/** The tree is still the parser's own. */
function setMatching(expr: Binary, matching: VectorMatching | undefined): void {
  const own = expr as { matching: VectorMatching | undefined }
  own.matching = matching
}

function vectorMatching(tokens: TokenStream, { op, position }: Binary, matching: VectorMatching): VectorMatching {
  if (!SET_OPERATORS.has(op)) return matching
  if (matching.cardinality !== 'one-to-one') tokens.fail(`no grouping allowed for ${quote(op)} operation`, position)
  if (hasFill(matching)) tokens.fail('filling in missing series not allowed for set operators', position)
  return { ...matching, cardinality: 'many-to-many' }
}

function noMatching(tokens: TokenStream, { op, position }: Binary, matching: VectorMatching): undefined {
  if (matching.labels.length > 0) tokens.fail('vector matching only allowed between instant vectors', position)
  if (hasFill(matching)) tokens.fail('filling in missing series only allowed between instant vectors', position)
  if (SET_OPERATORS.has(op)) tokens.fail(`set operator ${quote(op)} not allowed in binary scalar expression`, position)
}

function hasFill({ fillLeft, fillRight }: VectorMatching): boolean {
  return fillLeft !== undefined || fillRight !== undefined
}

/** The operator with its modifiers: what stands between the two sides. */
function operatorPosition(tokens: TokenStream, { left, right }: Binary): Position {
  let start = left.position.end
  while (isSpace(tokens.bytes.charCodeAt(start))) start++
  return { start, end: right.position.start }
}

function checkCall(tokens: TokenStream, call: Call): ValueType {
  const { argTypes, variadic, returnType } = FUNCTIONS.get(call.name)!
  checkArgumentCount(tokens, call, argTypes.length, variadic)
  const isInfo = call.name === 'info' && call.args.length > 1
  if (isInfo) checkInfoSelector(tokens, call, call.args[1]!)
  for (const [i, arg] of call.args.entries()) {
    const wanted = argTypes[i] ?? argTypes.at(-1)!
    const isAnySelector = isInfo && i === 1 && arg.kind === 'selector'
    const type = isAnySelector ? 'vector' : checkTypes(tokens, arg)
    if (type === wanted) continue
    const types = `expected type ${documentedType(wanted)} in call to function ${quote(call.name)}, got ${documentedType(type)}`
    tokens.fail(types, arg.position)
  }
  return returnType
}

function checkArgumentCount(tokens: TokenStream, call: Call, count: number, variadic: number): void {
  const place = `in call to ${quote(call.name)}, got ${call.args.length}`
  if (variadic === 0) {
    if (call.args.length !== count) tokens.fail(`expected ${count} argument(s) ${place}`, call.position)
    return
  }
  const countMin = count - 1
  if (call.args.length < countMin) tokens.fail(`expected at least ${countMin} argument(s) ${place}`, call.position)
  const countMax = countMin + variadic
  if (variadic > 0 && call.args.length > countMax) {
    tokens.fail(`expected at most ${countMax} argument(s) ${place}`, call.position)
  }
}

/** The second argument of info() is a selector of labels, which may be empty. */
function checkInfoSelector(tokens: TokenStream, call: Call, arg: Expr): void {
  const type = typeOf(arg)
  if (type !== 'vector') {
    tokens.fail(`expected type instant vector in call to function "info", got ${documentedType(type)}`, call.position)
  }
  if (arg.kind !== 'selector') tokens.fail('expected label selectors only', arg.position)
  else if (arg.name !== '') tokens.fail('expected label selectors only, got vector selector instead', arg.position)
}

function checkSelector(tokens: TokenStream, { name, matchers, position }: VectorSelector): ValueType {
  if (name !== '') {
    const other = matchers.slice(0, -1).find((matcher) => matcher.name === METRIC_NAME)
    if (other === undefined) return 'vector'
    tokens.fail(`metric name must not be set twice: ${quote(name)} or ${quote(other.value)}`, position)
  }
  if (matchers.every(matchesEmpty)) {
    tokens.fail('vector selector must contain at least one non-empty matcher', position)
  }
  return 'vector'
}

/** Refuses a tree that grew too deep to its left or by brackets, where the parse did not nest. */
export function checkDepth(tokens: TokenStream, root: Expr): void {
  if (tokens.tokenCount <= depthMax) return
  let level: Expr[] = [root]
  for (let depth = 0; level.length > 0; depth++) {
    if (depth > depthMax) tokens.tooDeep(level[0]!.position, depthMax)
    level = level.flatMap(childrenOf)
  }
}

function childrenOf(expr: Expr): readonly Expr[] {
  switch (expr.kind) {
    case 'unary':
    case 'paren':
      return [expr.expr]
    case 'subquery':
      return [expr.expr, ...[expr.range, expr.step, expr.offset].filter(isComputed)]
    case 'aggregation':
      return expr.param === undefined ? [expr.expr] : [expr.param, expr.expr]
    case 'binary':
      return [expr.left, expr.right]
    case 'call':
    case 'duration':
      return expr.args
    case 'selector':
      return [expr.offset].filter(isComputed)
    case 'matrix':
      return [expr.range, expr.selector.offset].filter(isComputed)
    case 'number':
    case 'string':
      return []
  }
}

function isComputed(duration: number | Expr | undefined): duration is Expr {
  return typeof duration === 'object'
}
