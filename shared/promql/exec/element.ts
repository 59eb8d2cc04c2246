// One operator over two columns (or a column and a scalar), step by step. Hot kernel: floats take a plain loop; histograms, where
// there are any, take the slow one.
import type { Breath } from '../../base/breathing.ts'
import type { Histogram } from '../../model/histogram.ts'
import type { Position } from '../ast.ts'
import { add, compact, equals, scale, scaleDown, subtract, trim } from '../functions/histogram-math.ts'
import { type HistogramNotes, IncompatibleSchemas } from '../functions/histogram-shape.ts'
import type { PlanBinary } from '../plan/plan.ts'
import { type Annotations, TEXTS } from './annotations.ts'
import { arithmetic } from './arithmetic.ts'
import { ABSENT, type Column, FLOAT, HISTOGRAM, HISTOGRAM_WORK, setHistogram } from './column.ts'

export interface Operands {
  a: Column
  b: Column
  /** In place of a or b (COLUMN-2): one number per step. */
  scalarA: Float64Array | undefined
  scalarB: Float64Array | undefined
}

/** Writes into `result` (which may be one of the operands) and, where given, marks in `met` the steps where both had a value. Floats are
 *  done at once; what is answered must be waited for. */
export type ElementOperation = (
  operands: Operands,
  result: Column,
  met: Uint8Array | undefined,
  breath: Breath,
) => Promise<void> | undefined

/** What was odd about the pairs of one operator: of each step only the last one is told. Rule: Prometheus keeps one per evaluation. */
export class LastNotes {
  private readonly bySteps = new Map<number, { readonly isWarning: boolean; readonly text: string }>()

  inform(step: number, text: string): undefined {
    this.bySteps.set(step, { isWarning: false, text })
  }

  warn(step: number, text: string): undefined {
    this.bySteps.set(step, { isWarning: true, text })
  }

  tell(annotations: Annotations, position: Position): void {
    for (const { isWarning, text } of this.bySteps.values()) {
      if (isWarning) annotations.warn(text, position)
      else annotations.inform(text, position)
    }
  }
}

interface Options {
  /** A comparison whose right side is the vector: that value is kept. */
  readonly keepsVector: boolean
}

export function elementOperation(node: PlanBinary, notes: LastNotes, { keepsVector }: Options): ElementOperation {
  const compare = comparison(node.op)
  const compute = compare === undefined && !isTrim(node.op) ? arithmetic(node.op) : undefined
  const slow = mixedOperation(node, notes, keepsVector)
  return (operands, result, met, breath) => {
    const { a, b, scalarA, scalarB } = operands
    if (a.histograms !== undefined || b.histograms !== undefined || isTrim(node.op)) {
      return slow(operands, result, met, breath)
    }
    const x = scalarA ?? a.values
    const y = scalarB ?? b.values
    const kindsX = scalarA === undefined ? a.kinds : b.kinds
    const kindsY = scalarB === undefined ? b.kinds : a.kinds
    if (compute !== undefined) computeFloats(compute, { x, y, kindsX, kindsY }, result, met)
    else compareFloats(compare!, { x, y, kindsX, kindsY }, result, met, { returnBool: node.returnBool, keepsVector })
    return undefined
  }
}

interface FloatOperands {
  readonly x: Float64Array
  readonly y: Float64Array
  readonly kindsX: Uint8Array
  readonly kindsY: Uint8Array
}

function computeFloats(
  compute: (x: number, y: number) => number,
  { x, y, kindsX, kindsY }: FloatOperands,
  { values, kinds }: Column,
  met: Uint8Array | undefined,
): void {
  for (let i = 0; i < values.length; i++) {
    if (kindsX[i] === ABSENT || kindsY[i] === ABSENT) {
      kinds[i] = ABSENT
      continue
    }
    values[i] = compute(x[i]!, y[i]!)
    kinds[i] = FLOAT
    if (met !== undefined) met[i] = 1
  }
}

function compareFloats(
  compare: (x: number, y: number) => boolean,
  { x, y, kindsX, kindsY }: FloatOperands,
  { values, kinds }: Column,
  met: Uint8Array | undefined,
  { returnBool, keepsVector }: { returnBool: boolean; keepsVector: boolean },
): void {
  for (let i = 0; i < values.length; i++) {
    if (kindsX[i] === ABSENT || kindsY[i] === ABSENT) {
      kinds[i] = ABSENT
      continue
    }
    if (met !== undefined) met[i] = 1
    const holds = compare(x[i]!, y[i]!)
    if (returnBool) values[i] = holds ? 1 : 0
    else values[i] = keepsVector ? y[i]! : x[i]!
    kinds[i] = holds || returnBool ? FLOAT : ABSENT
  }
}

function comparison(op: string): ((x: number, y: number) => boolean) | undefined {
  switch (op) {
    case '==':
      return (x, y) => x === y
    case '!=':
      return (x, y) => x !== y
    case '>':
      return (x, y) => x > y
    case '<':
      return (x, y) => x < y
    case '>=':
      return (x, y) => x >= y
    case '<=':
      return (x, y) => x <= y
    default:
      return undefined
  }
}

function isTrim(op: string): boolean {
  return op === '</' || op === '>/'
}

/** What came of one pair: a float, a histogram, or nothing because the types do not go together. */
type Outcome =
  | { readonly kind: 'float'; readonly value: number; readonly keep: boolean }
  | { readonly kind: 'histogram'; readonly histogram: Histogram; readonly keep: boolean }
  | undefined

function mixedOperation(node: PlanBinary, notes: LastNotes, keepsVector: boolean): ElementOperation {
  const compute = mixedElement(node, notes)
  return async ({ a, b, scalarA, scalarB }, result, met, breath) => {
    for (let i = 0; i < result.values.length; i++) {
      if (breath.isDue(HISTOGRAM_WORK)) await breath.breathe()
      const kindX = scalarA === undefined ? a.kinds[i]! : FLOAT
      const kindY = scalarB === undefined ? b.kinds[i]! : FLOAT
      const isThere = kindX !== ABSENT && kindY !== ABSENT
      const histogramX = kindX === HISTOGRAM ? a.histograms![i] : undefined
      const histogramY = kindY === HISTOGRAM ? b.histograms![i] : undefined
      const x = (scalarA ?? a.values)[i]!
      const y = (scalarB ?? b.values)[i]!
      result.kinds[i] = ABSENT
      const outcome = isThere ? compute(i, x, y, histogramX, histogramY) : undefined
      if (outcome === undefined) continue
      if (met !== undefined) met[i] = 1
      if (node.returnBool) setFloat(result, i, outcome.keep ? 1 : 0)
      else if (!outcome.keep) continue
      else if (outcome.kind === 'histogram') setHistogram(result, i, outcome.histogram)
      else setFloat(result, i, keepsVector ? y : outcome.value)
    }
  }
}

function setFloat(column: Column, step: number, value: number): void {
  column.values[step] = value
  column.kinds[step] = FLOAT
}

type Element = (step: number, x: number, y: number, a: Histogram | undefined, b: Histogram | undefined) => Outcome

function mixedElement({ op }: PlanBinary, notes: LastNotes): Element {
  const compare = comparison(op)
  const kept = (histogram: Histogram): Outcome => ({ kind: 'histogram', histogram, keep: true })
  return (step, x, y, a, b) => {
    const incompatible = (left: string, right: string) => notes.inform(step, TEXTS.incompatibleTypes(left, op, right))
    if (a === undefined && b === undefined) {
      if (isTrim(op)) return incompatible('float', 'float')
      if (compare !== undefined) return { kind: 'float', value: x, keep: compare(x, y) }
      return { kind: 'float', value: arithmetic(op)(x, y), keep: true }
    }
    if (a === undefined) return op === '*' ? kept(compact(scale(b!, x))) : incompatible('float', 'histogram')
    if (b === undefined) {
      if (op === '*') return kept(compact(scale(a, y)))
      if (op === '/') return kept(compact(scaleDown(a, y)))
      if (isTrim(op)) return kept(trim(a, y, op === '</'))
      return incompatible('histogram', 'float')
    }
    if (op === '==') return { kind: 'histogram', histogram: a, keep: equals(a, b) }
    if (op === '!=') return { kind: 'histogram', histogram: a, keep: !equals(a, b) }
    if (op !== '+' && op !== '-') return incompatible('histogram', 'histogram')
    return combine(step, op, a, b)
  }

  function combine(step: number, sign: '+' | '-', a: Histogram, b: Histogram): Outcome {
    const found: HistogramNotes = { collided: false, reconciled: false }
    const operation = sign === '+' ? 'addition' : 'subtraction'
    try {
      const sum = sign === '+' ? add(a, b, found) : { ...subtract(a, b, found), resetHint: 'gauge' as const }
      if (found.collided) return notes.warn(step, TEXTS.resetCollision(operation))
      if (found.reconciled) notes.inform(step, TEXTS.boundsReconciled(operation))
      return kept(sum)
    } catch (error) {
      if (!(error instanceof IncompatibleSchemas)) throw error
      return notes.warn(step, TEXTS.incompatibleLayout(sign))
    }
  }
}
