// PromQL from text to tree, in Prometheus' grammar, types and error texts: recursive descent, with precedence climbing
// for the operators.
//
// Invariants
//   PARSER-1  The first mistake that Prometheus would report is the one reported, at the same place and in the same words.
//   PARSER-2  No tree is deeper than `depthMax`, so whoever walks it may recurse.
import type { Matcher } from '../../model/matcher.ts'
import { PATTERN_SIZE_MAX } from '../../model/pattern.ts'
import type { Aggregation, Binary, Call, Expr, Unary, VectorMatching } from '../ast.ts'
import { checkDepth, checkTypes } from './check.ts'
import { parseNumberLiteral } from './durations.ts'
import { FUNCTIONS } from './functions.ts'
import { quote } from './go-text.ts'
import { stringFrom } from './literals.ts'
import { parsePostfix } from './modifiers.ts'
import { matchesEmpty, parseVectorSelector } from './selectors.ts'
import {
  AGGREGATORS,
  AGGREGATORS_WITH_PARAM,
  CALL_WORDS,
  DURATION,
  END_OF_INPUT,
  EXPERIMENTAL_AGGREGATORS,
  EXPRESSION_STARTS,
  GROUPING_LABELS,
  IDENTIFIER,
  NUMBER,
  STRING,
  type Token,
  textOf,
} from './token.ts'
import { depthMax, FEATURES, TokenStream } from './token-stream.ts'

export interface ParseOptions {
  /** Names from FEATURES. */
  readonly enabledFeatures?: ReadonlySet<string>
  /** Instructions that one regular expression may compile to. */
  readonly patternSizeMax?: number
}

const NONE: ReadonlySet<string> = new Set()

/** The tree of a query, type-checked. Throws PromqlError. */
export function parse(text: string, options: ParseOptions = {}): Expr {
  const tokens = tokensOf(text, options)
  if (tokens.peek().kind === END_OF_INPUT) tokens.fail('no expression found in input', { start: 0, end: 0 })
  const expr = parseExpr(tokens, 0)
  tokens.expect(END_OF_INPUT)
  checkDepth(tokens, expr)
  checkTypes(tokens, expr)
  return expr
}

/** The matchers of one series selector such as `up{job="x"}`. Throws PromqlError. */
export function parseSelector(text: string, options: Pick<ParseOptions, 'patternSizeMax'> = {}): Matcher[] {
  const tokens = tokensOf(text, options)
  const { matchers } = parseVectorSelector(tokens)
  tokens.expect(END_OF_INPUT)
  return [...matchers]
}

function tokensOf(
  text: string,
  { enabledFeatures = NONE, patternSizeMax = PATTERN_SIZE_MAX }: ParseOptions,
): TokenStream {
  return new TokenStream(text, enabledFeatures, patternSizeMax)
}

/** True when no matcher keeps out a series without labels: a `match[]` must not be so. */
export function selectsEverything(matchers: readonly Matcher[]): boolean {
  return matchers.every(matchesEmpty)
}

const PRECEDENCE: ReadonlyMap<string, number> = new Map([
  ['or', 1],
  ...['and', 'unless'].map((operator) => [operator, 2] as const),
  ...['==', '>=', '>', '<', '<=', '!=', '</', '>/'].map((operator) => [operator, 3] as const),
  ...['+', '-'].map((operator) => [operator, 4] as const),
  ...['*', '/', '%', 'atan2'].map((operator) => [operator, 5] as const),
  ['^', 6],
])
const POWER = 6

function parseExpr(tokens: TokenStream, precedenceMin: number): Expr {
  return tokens.nested(() => {
    let left = parseUnary(tokens)
    for (let depth = 1; ; depth++) {
      const operator = tokens.peek().kind
      const precedence = PRECEDENCE.get(operator)
      if (precedence === undefined || precedence < precedenceMin) return left
      if (depth > depthMax) tokens.tooDeep(tokens.peek())
      tokens.next()
      left = parseRight(tokens, left, operator, precedence)
    }
  })
}

function parseRight(tokens: TokenStream, left: Expr, op: string, precedence: number): Binary {
  const returnBool = tokens.take('bool') !== undefined
  const matching = parseMatching(tokens)
  const right = parseExpr(tokens, precedence === POWER ? POWER : precedence + 1)
  const position = { start: left.position.start, end: right.position.end }
  if ((matching.fillLeft ?? matching.fillRight) !== undefined && !tokens.features.has(FEATURES.fill)) {
    tokens.fail('binop fill modifiers are experimental and not enabled', position)
  }
  return { kind: 'binary', op, left, right, returnBool, matching, position }
}

function parseMatching(tokens: TokenStream): VectorMatching {
  const how = tokens.take('on') ?? tokens.take('ignoring')
  const labels = how === undefined ? [] : parseGrouping(tokens)
  const group = how === undefined ? undefined : (tokens.take('group_left') ?? tokens.take('group_right'))
  const include = group === undefined ? [] : parseIncluded(tokens)
  const cardinality = group === undefined ? 'one-to-one' : group.kind === 'group_left' ? 'many-to-one' : 'one-to-many'
  return { cardinality, labels, isOn: how?.kind === 'on', include, ...parseFill(tokens) }
}

/** After group_left: labels in parentheses, or none and at once the right side. */
function parseIncluded(tokens: TokenStream): string[] {
  const { kind } = tokens.peek()
  return kind === '(' || !EXPRESSION_STARTS.has(kind) ? parseGrouping(tokens) : []
}

function parseFill(tokens: TokenStream): { fillLeft: number | undefined; fillRight: number | undefined } {
  if (tokens.take('fill') !== undefined) {
    const both = parseFillValue(tokens)
    return { fillLeft: both, fillRight: both }
  }
  if (tokens.take('fill_left') !== undefined) {
    const fillLeft = parseFillValue(tokens)
    return { fillLeft, fillRight: tokens.take('fill_right') === undefined ? undefined : parseFillValue(tokens) }
  }
  if (tokens.take('fill_right') !== undefined) {
    const fillRight = parseFillValue(tokens)
    return { fillLeft: tokens.take('fill_left') === undefined ? undefined : parseFillValue(tokens), fillRight }
  }
  return { fillLeft: undefined, fillRight: undefined }
}

function parseFillValue(tokens: TokenStream): number {
  tokens.expect('(')
  const sign = tokens.take('-') ?? tokens.take('+')
  const { value } = parseNumberLiteral(tokens)
  tokens.expect(')')
  return sign?.kind === '-' ? -value : value
}

/** The labels in parentheses after `by`, `on`, `group_left` and their kin. */
function parseGrouping(tokens: TokenStream): string[] {
  const place = ' in grouping opts, expected'
  if (tokens.take('(') === undefined) tokens.unexpected(`${place} "("`)
  const labels: string[] = []
  while (tokens.peek().kind !== ')') {
    const token = tokens.peek()
    if (token.kind !== STRING && !GROUPING_LABELS.has(token.kind)) tokens.unexpected(`${place} label`)
    tokens.next()
    labels.push(groupingLabel(tokens, token))
    if (tokens.peek().kind === ')') break
    if (tokens.take(',') === undefined) tokens.unexpected(`${place} "," or ")"`)
  }
  tokens.next()
  return labels
}

function groupingLabel(tokens: TokenStream, token: Token): string {
  const label = token.kind === STRING ? stringFrom(token.bytes) : textOf(token)
  if (label === '' || !label.isWellFormed()) tokens.fail(`invalid label name for grouping: ${quote(label)}`, token)
  return label
}

/** A sign binds weaker than `^` and like `*`; before a number it becomes part of the number. */
function parseUnary(tokens: TokenStream): Expr {
  const sign = tokens.take('+') ?? tokens.take('-')
  if (sign === undefined) return parsePostfix(tokens, parsePrimary(tokens))
  const expr = parseExpr(tokens, POWER)
  const position = { start: sign.start, end: expr.position.end }
  if (expr.kind === 'number') return { ...expr, value: sign.kind === '-' ? -expr.value : expr.value, position }
  return { kind: 'unary', op: sign.kind as Unary['op'], expr, position }
}

function parsePrimary(tokens: TokenStream): Expr {
  const first = tokens.peek()
  if (first.kind === NUMBER || first.kind === DURATION) return parseNumberLiteral(tokens)
  if (first.kind === STRING) {
    tokens.next()
    return { kind: 'string', value: stringFrom(first.bytes), position: { start: first.start, end: first.end } }
  }
  if (first.kind === '(') return parseParen(tokens)
  return parseNamed(tokens, first)
}

function parseParen(tokens: TokenStream): Expr {
  const { start } = tokens.next()
  const expr = parseExpr(tokens, 0)
  const { end } = tokens.expect(')')
  return { kind: 'paren', expr, position: { start, end } }
}

/** A word is an aggregation, a function or a metric, by what follows it. */
function parseNamed(tokens: TokenStream, first: Token): Expr {
  if (first.kind !== IDENTIFIER && !AGGREGATORS.has(first.kind) && !CALL_WORDS.has(first.kind)) {
    return parseVectorSelector(tokens)
  }
  const following = tokens.second().kind
  if (AGGREGATORS.has(first.kind)) {
    if (following === '(' || following === 'by' || following === 'without') return parseAggregation(tokens)
  } else if (following === '(') {
    return parseCall(tokens)
  }
  return parseVectorSelector(tokens)
}

function parseAggregation(tokens: TokenStream): Aggregation {
  const word = tokens.next()
  const outer = tokens.context
  tokens.context = ' in aggregation'
  const before = parseAggregationModifier(tokens)
  const args = parseArguments(tokens)
  const modifier = before ?? parseAggregationModifier(tokens)
  const end = modifier === undefined ? tokens.endOfCall() : tokens.lastClosing
  const position = { start: word.start, end }
  const { expr, param } = aggregationArguments(tokens, word.kind, args, position)
  tokens.context = outer
  const { grouping = [], isWithout = false } = modifier ?? {}
  return { kind: 'aggregation', op: word.kind, expr, param, grouping, isWithout, position }
}

function parseAggregationModifier(tokens: TokenStream): { grouping: string[]; isWithout: boolean } | undefined {
  const word = tokens.take('by') ?? tokens.take('without')
  return word && { grouping: parseGrouping(tokens), isWithout: word.kind === 'without' }
}

function aggregationArguments(
  tokens: TokenStream,
  op: string,
  args: readonly Expr[],
  position: Aggregation['position'],
): { expr: Expr; param: Expr | undefined } {
  if (args.length === 0) tokens.fail('no arguments for aggregate expression provided', position)
  if (EXPERIMENTAL_AGGREGATORS.has(op) && !tokens.features.has(FEATURES.functions)) {
    const hint = `must be enabled with --enable-feature=${FEATURES.functions}`
    tokens.fail(`${op}() is experimental and ${hint}`, position)
  }
  const count = AGGREGATORS_WITH_PARAM.has(op) ? 2 : 1
  if (args.length !== count) {
    const counts = `expected ${count}, got ${args.length}`
    tokens.fail(`wrong number of arguments for aggregate expression provided, ${counts}`, position)
  }
  return { expr: args[count - 1]!, param: count === 2 ? args[0] : undefined }
}

function parseCall(tokens: TokenStream): Call {
  const word = tokens.next()
  const args = parseArguments(tokens)
  const name = textOf(word)
  const signature = FUNCTIONS.get(name)
  if (signature === undefined) tokens.fail(`unknown function with name ${quote(name)}`, word)
  if (signature.isExperimental && !tokens.features.has(FEATURES.functions)) {
    tokens.fail(`function ${quote(name)} is not enabled`, word)
  }
  return { kind: 'call', name, args, position: { start: word.start, end: tokens.lastClosing } }
}

function parseArguments(tokens: TokenStream): Expr[] {
  tokens.expect('(')
  const args: Expr[] = []
  if (tokens.take(')') !== undefined) return args
  for (;;) {
    args.push(parseExpr(tokens, 0))
    const comma = tokens.take(',')
    if (comma === undefined) break
    if (!EXPRESSION_STARTS.has(tokens.peek().kind)) {
      tokens.fail('trailing commas not allowed in function call args', comma)
    }
  }
  tokens.expect(')')
  return args
}
