// What the operators do to two floats.
import { power } from '../functions/go-math.ts'
import { ExecutionError } from './errors.ts'

export function scalarOperation(op: string): (left: number, right: number) => number {
  switch (op) {
    case '==':
      return (a, b) => Number(a === b)
    case '!=':
      return (a, b) => Number(a !== b)
    case '>':
      return (a, b) => Number(a > b)
    case '<':
      return (a, b) => Number(a < b)
    case '>=':
      return (a, b) => Number(a >= b)
    case '<=':
      return (a, b) => Number(a <= b)
    default:
      return arithmetic(op)
  }
}

export function arithmetic(op: string): (left: number, right: number) => number {
  switch (op) {
    case '+':
      return (a, b) => a + b
    case '-':
      return (a, b) => a - b
    case '*':
      return (a, b) => a * b
    case '/':
      return (a, b) => a / b
    case '%':
      return (a, b) => a % b
    case '^':
      return power
    case 'atan2':
      return Math.atan2
    default:
      throw new ExecutionError(`operator ${op} is not allowed between these values`)
  }
}
