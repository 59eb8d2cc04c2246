// label_replace and label_join: they work on series, never on values.
import { type RE2JS, RE2JSSyntaxException } from 're2js'
import { type NamedGroups, namedGroups } from '../../model/group-names.ts'
import { labelOf, METRIC_NAME } from '../../model/labels.ts'
import { compilePattern } from '../../model/pattern.ts'
import { type Column, type Grid, mergeSameLabels } from '../exec/column.ts'
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

function setLabel(column: Column, name: string, value: string, { memory }: Evaluation): void {
  memory.keep(textBytes(value))
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
  for (const column of columns) {
    const matcher = pattern.matcher(labelOf(column.labels, source))
    if (!matcher.matches()) continue
    const groupOf = (name: string): string => {
      const numbers = numbersOf.get(name) ?? (/^\d+$/.test(name) ? [Number(name)] : [])
      for (const at of numbers) {
        const text = at <= matcher.groupCount() ? matcher.group(at) : null
        if (text !== null) return text // the first of the name that took part
      }
      return ''
    }
    setLabel(column, target, expand(replacement, groupOf), state)
  }
  return mergeSameLabels(columns)
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

/** `$1`, `${1}`, `$name`, `${name}` and `$$`. A dollar that begins none of these stands for itself. */
function expand(template: string, groupOf: (name: string) => string): string {
  return template.replace(/\$(\$|\{[\p{L}\p{Nd}_]+\}|[\p{L}\p{Nd}_]+)/gu, (_, name: string) => {
    if (name === '$') return '$'
    return groupOf(name.startsWith('{') ? name.slice(1, -1) : name)
  })
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
    setLabel(column, target, sources.map((source) => labelOf(column.labels, source)).join(separator), state)
  }
  return mergeSameLabels(columns)
}
