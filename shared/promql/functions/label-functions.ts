// label_replace and label_join: they work on series, never on values.
import { type RE2JS, RE2JSSyntaxException } from 're2js'
import { type NamedGroups, namedGroups } from '../../model/group-names.ts'
import { labelOf, METRIC_NAME } from '../../model/labels.ts'
import { compilePattern } from '../../model/pattern.ts'
import { COLUMN_WORK, type Column, type Grid, mergeSameLabels } from '../exec/column.ts'
import { ExecutionError } from '../exec/errors.ts'
import { withLabel } from '../exec/labels.ts'
import type { Evaluation } from '../exec/query-state.ts'
import { textBytes } from '../memory.ts'
import type { PlanCall } from '../plan/plan.ts'

function textOf(node: PlanCall, at: number): string {
  const arg = node.args[at]
  if (arg?.kind !== 'string') throw new ExecutionError(`${node.name} wants a string as argument ${at + 1}`)
  return arg.value
}

function isLabelName(name: string): boolean {
  return name !== '' && name.isWellFormed()
}

/** Characters of a label that a function makes: a few doublings of a text would else take all there is. */
export const MADE_LABEL_LENGTH_MAX = 64 * 1024
/** Of trying a pattern on a character, in units of work. */
const MATCH_WORK = 50

/** Charged before it is made. */
function checkLength(node: PlanCall, length: number, { memory }: Evaluation): void {
  if (length > MADE_LABEL_LENGTH_MAX) {
    throw new ExecutionError(`${node.name} makes a label of more than ${MADE_LABEL_LENGTH_MAX} characters`)
  }
  memory.keep(textBytes(length))
}

function setLabel(column: Column, name: string, value: string): void {
  column.labels = withLabel(column.labels, name, value)
  if (name === METRIC_NAME) column.dropsName = false
}

export async function labelReplace(node: PlanCall, grid: Grid, state: Evaluation): Promise<Column[]> {
  const target = textOf(node, 1)
  const replacement = textOf(node, 2)
  const source = textOf(node, 3)
  const { pattern, numbersOf } = compile(textOf(node, 4), state.patternSizeMax)
  if (!isLabelName(target)) {
    throw new ExecutionError(`invalid destination label name in label_replace(): ${target}`)
  }
  const columns = await state.vector(node.args[0]!, grid)
  const parts = templateOf(replacement)
  for (const column of columns) {
    const text = labelOf(column.labels, source)
    const matcher = pattern.matcher(text)
    const isMatch = matcher.matches()
    if (state.isDue(COLUMN_WORK + MATCH_WORK * text.length + replacement.length)) await state.breathe()
    if (!isMatch) continue
    const groupOf = (name: string): string => {
      const numbers = numbersOf.get(name) ?? (/^\d+$/.test(name) ? [Number(name)] : [])
      for (const at of numbers) {
        const text = at <= matcher.groupCount() ? matcher.group(at) : null
        if (text !== null) return text // the first of the name that took part
      }
      return ''
    }
    const texts = parts.map((part) => (typeof part === 'string' ? part : groupOf(part.group)))
    checkLength(node, lengthOf(texts), state)
    setLabel(column, target, texts.join(''))
  }
  return mergeSameLabels(columns, state)
}

function lengthOf(texts: readonly string[]): number {
  return texts.reduce((sum, { length }) => sum + length, 0)
}

function compile(text: string, sizeMax: number): { pattern: RE2JS } & Pick<NamedGroups, 'numbersOf'> {
  try {
    const { source, numbersOf } = namedGroups(text)
    return { pattern: compilePattern(`^(?s:${source})$`, { sizeMax }), numbersOf }
  } catch (error) {
    if (!(error instanceof RE2JSSyntaxException)) throw error
    throw new ExecutionError(`invalid regular expression in label_replace(): ${text}`, { cause: error })
  }
}

/** The texts and groups of a replacement: `$1`, `${1}`, `$name`, `${name}` and `$$`. A dollar that begins none of these stands for itself. */
function templateOf(replacement: string): readonly (string | { readonly group: string })[] {
  const parts: (string | { readonly group: string })[] = []
  let at = 0
  for (const found of replacement.matchAll(/\$(\$|\{[\p{L}\p{Nd}_]+\}|[\p{L}\p{Nd}_]+)/gu)) {
    const name = found[1]!
    parts.push(replacement.slice(at, found.index))
    parts.push(name === '$' ? '$' : { group: name.startsWith('{') ? name.slice(1, -1) : name })
    at = found.index + found[0].length
  }
  parts.push(replacement.slice(at))
  return parts
}

export async function labelJoin(node: PlanCall, grid: Grid, state: Evaluation): Promise<Column[]> {
  const target = textOf(node, 1)
  const separator = textOf(node, 2)
  const sources: string[] = []
  for (let at = 3; at < node.args.length; at++) {
    const source = textOf(node, at)
    if (!isLabelName(source)) throw new ExecutionError(`invalid source label name in label_join(): ${source}`)
    sources.push(source)
  }
  if (!isLabelName(target)) throw new ExecutionError(`invalid destination label name in label_join(): ${target}`)
  const columns = await state.vector(node.args[0]!, grid)
  for (const column of columns) {
    const texts = sources.map((source) => labelOf(column.labels, source))
    checkLength(node, lengthOf(texts) + separator.length * Math.max(0, texts.length - 1), state)
    setLabel(column, target, texts.join(separator))
    if (state.isDue(COLUMN_WORK * (1 + texts.length))) await state.breathe()
  }
  return mergeSameLabels(columns, state)
}
