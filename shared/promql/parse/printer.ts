// A tree as text again: `format` on one line, `prettify` over several where a line would grow too long.
import { compareBytes, METRIC_NAME } from '../../model/labels.ts'
import type { Matcher } from '../../model/matcher.ts'
import type {
  Aggregation,
  AtModifier,
  Binary,
  DurationCall,
  DurationValue,
  Expr,
  MatrixSelector,
  NumberLiteral,
  Subquery,
  VectorMatching,
  VectorSelector,
} from '../ast.ts'
import { formatPlain, formatShort } from '../format-float.ts'
import { formatDuration, quote } from './go-text.ts'

/** The line, in bytes, that prettify breaks. */
const lineBytesMax = 100

/** The expression on one line, in the form that Prometheus prints. It parses to the same tree. */
export function format(expr: Expr): string {
  switch (expr.kind) {
    case 'number':
      return formatNumber(expr)
    case 'string':
      return quote(expr.value)
    case 'selector':
      return formatSelector(expr)
    case 'matrix':
      return formatMatrix(expr)
    case 'subquery':
      return format(expr.expr) + subquerySuffix(expr)
    case 'call':
      return `${expr.name}(${expr.args.map(format).join(', ')})`
    case 'aggregation': {
      const args = expr.param === undefined ? [expr.expr] : [expr.param, expr.expr]
      return `${aggregationHead(expr)}(${args.map(format).join(', ')})`
    }
    case 'unary':
      return expr.op + format(expr.expr)
    case 'paren':
      return `(${format(expr.expr)})`
    case 'binary':
      return `${format(expr.left)} ${operatorText(expr)} ${format(expr.right)}`
    case 'duration':
      return formatDurationCall(expr)
  }
}

/** The expression as `/api/v1/format_query` answers it. */
export function prettify(expr: Expr): string {
  return pretty(expr, 0)
}

function pretty(expr: Expr, level: number): string {
  const indent = '  '.repeat(level)
  const line = format(expr)
  const isLong = Buffer.byteLength(line) > lineBytesMax
  switch (expr.kind) {
    case 'unary':
      return indent + expr.op + pretty(expr.expr, level).trim()
    case 'subquery':
      return isLong ? pretty(expr.expr, level) + subquerySuffix(expr) : line
    case 'aggregation': {
      if (!isLong) break
      const args = expr.param === undefined ? [expr.expr] : [expr.param, expr.expr]
      return `${indent}${aggregationHead(expr)}(\n${prettyList(args, level + 1)}\n${indent})`
    }
    case 'call':
      if (!isLong) break
      return `${indent}${expr.name}(\n${prettyList(expr.args, level + 1)}\n${indent})`
    case 'paren':
      if (!isLong) break
      return `${indent}(\n${pretty(expr.expr, level + 1)}\n${indent})`
    case 'binary':
      if (!isLong) break
      return `${pretty(expr.left, level + 1)}\n${indent}${operatorText(expr)}\n${pretty(expr.right, level + 1)}`
    case 'number':
    case 'string':
    case 'selector':
    case 'matrix':
    case 'duration':
      break
  }
  return indent + line
}

function prettyList(args: readonly Expr[], level: number): string {
  return args.map((arg) => pretty(arg, level)).join(',\n')
}

function formatNumber({ value, isDuration }: NumberLiteral): string {
  return isDuration ? formatDuration(value * 1000) : formatPlain(value)
}

function aggregationHead({ op, grouping, isWithout }: Aggregation): string {
  if (isWithout) return `${op} without (${labelList(grouping)}) `
  return grouping.length > 0 ? `${op} by (${labelList(grouping)}) ` : op
}

function labelList(labels: readonly string[]): string {
  return labels.map(labelName).join(', ')
}

function labelName(name: string): string {
  return /^[a-zA-Z_][a-zA-Z0-9_]*$/.test(name) ? name : quote(name)
}

function operatorText({ op, returnBool, matching }: Binary): string {
  return op + (returnBool ? ' bool' : '') + (matching === undefined ? '' : matchingText(matching))
}

function matchingText({ cardinality, labels, isOn, include, fillLeft, fillRight }: VectorMatching): string {
  const isGrouped = cardinality === 'many-to-one' || cardinality === 'one-to-many'
  let text = ''
  if (labels.length > 0 || isOn || isGrouped) text += ` ${isOn ? 'on' : 'ignoring'} (${labelList(labels)})`
  if (isGrouped) text += ` group_${cardinality === 'many-to-one' ? 'left' : 'right'} (${labelList(include)})`
  if (fillLeft !== undefined && fillLeft === fillRight) return `${text} fill (${formatShort(fillLeft)})`
  if (fillLeft !== undefined) text += ` fill_left (${formatShort(fillLeft)})`
  if (fillRight !== undefined) text += ` fill_right (${formatShort(fillRight)})`
  return text
}

function formatSelector(selector: VectorSelector): string {
  const { at, modifier, offset } = selector
  return series(selector) + atText(at) + (modifier === undefined ? '' : ` ${modifier}`) + offsetText(offset)
}

function formatMatrix({ selector, range }: MatrixSelector): string {
  const { at, modifier, offset } = selector
  const modifierText = modifier === undefined ? '' : ` ${modifier}`
  return `${series(selector)}[${durationText(range)}]${modifierText}${atText(at)}${offsetText(offset)}`
}

/** Name and matchers. The name's own matcher is left out; the others are sorted as texts. */
function series({ name, matchers }: VectorSelector): string {
  const texts = matchers.filter((matcher) => !isOwnName(matcher, name)).map(matcherText)
  return texts.length === 0 ? name : `${name}{${texts.sort(compareBytes).join(',')}}`
}

function isOwnName(matcher: Matcher, name: string): boolean {
  return matcher.name === METRIC_NAME && matcher.operator === '=' && matcher.value === name && name !== ''
}

/** `name="value"`, the name in quotes where it needs them. */
export function matcherText({ name, operator, value }: Matcher): string {
  return labelName(name) + operator + quote(value)
}

function subquerySuffix({ range, step, at, offset }: Subquery): string {
  const stepText = step === undefined ? '' : durationText(step)
  return `[${durationText(range)}:${stepText}]${atText(at)}${offsetText(offset)}`
}

function atText(at: AtModifier | undefined): string {
  if (at === undefined) return ''
  return at.kind === 'time' ? ` @ ${(at.timeMs / 1000).toFixed(3)}` : ` @ ${at.kind}()`
}

function offsetText(offset: DurationValue): string {
  return offset === 0 ? '' : ` offset ${durationText(offset)}`
}

function durationText(duration: DurationValue): string {
  return typeof duration === 'number' ? formatDuration(duration) : format(duration)
}

function formatDurationCall({ op, args, isWrapped = false }: DurationCall): string {
  const text = durationCallText(op, args.map(format))
  return isWrapped ? `(${text})` : text
}

function durationCallText(op: DurationCall['op'], args: readonly string[]): string {
  const [first = '', second] = args
  if (op === 'step' || op === 'range') return `${op}()`
  if (op === 'min' || op === 'max') return `${op}_of(${args.join(', ')})`
  if (second !== undefined) return `${first} ${op} ${second}`
  return op === '-' ? `-${first}` : first
}
