// What the fields of a message or a record must be: checked at the border, so that whoever gets a value may rely on its type.
import type { Matcher } from '../model/matcher.ts'
import { parseTenant } from '../model/tenant.ts'

/** What one field must be. */
export interface Check {
  readonly wants: string
  isMet(value: unknown): boolean
}

const check = (wants: string, isMet: (value: unknown) => boolean): Check => ({ wants, isMet })
export const isWhole = (value: unknown): value is number => Number.isSafeInteger(value)

export const aText = check('a text', (value) => typeof value === 'string')
export const aName = check('a text that is not empty', (value) => typeof value === 'string' && value !== '')
export const aWhole = check('a whole number', isWhole)
export const aCount = check('a whole number from 0 on', (value) => isWhole(value) && value >= 0)
export const aNumber = check('a number', (value) => Number.isFinite(value))
export const aFlag = check('true or false', (value) => typeof value === 'boolean')
export const oneOf = (...names: readonly string[]): Check =>
  check(names.join(', '), (value) => typeof value === 'string' && names.includes(value))
export const listOf = (each: Check): Check =>
  check(`a list of: ${each.wants}`, (value) => Array.isArray(value) && value.every(each.isMet))
export const mapOf = (each: Check): Check =>
  check(`names with: ${each.wants}`, (value) => isObject(value) && Object.values(value).every(each.isMet))
/** A tenant's id that HTTP would let in. */
export const aTenant = check('a tenant that is allowed', (value) => typeof value === 'string' && isTenant(value))
export const orNull = (each: Check): Check =>
  check(`null, or ${each.wants}`, (value) => value === null || each.isMet(value))
/** Infinity is no bound. */
export const aLimit = check('a number, or infinite', (value) => typeof value === 'number' && !Number.isNaN(value))
export const someWords = check('words of 32 bits', (value) => value instanceof Uint32Array)
export const ifThere = (each: Check): Check =>
  check(`nothing, or ${each.wants}`, (value) => value === undefined || each.isMet(value))
export const anObject = <T extends object>(shape: Shape<T>): Check =>
  check(`an object with ${Object.keys(shape).join(', ')}`, (value) => isObject(value) && faultOf(value, shape) === '')

const aMatcher = anObject<Matcher>({ name: aText, operator: oneOf('=', '!=', '=~', '!~'), value: aText })
export const someMatchers = listOf(aMatcher)
export const someSelectors = listOf(someMatchers)

/** A check for every field; what is not named there is kept as it came. */
export type Shape<T> = { readonly [K in keyof T]-?: Check }

export function isObject(value: unknown): value is Readonly<Record<string, unknown>> {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
}

/** The first field that is not what it should be, in words; '' when all are. */
export function faultOf(fields: Readonly<Record<string, unknown>>, shape: Readonly<Record<string, Check>>): string {
  for (const [name, { wants, isMet }] of Object.entries(shape))
    if (!isMet(Object.hasOwn(fields, name) ? fields[name] : undefined)) return `${name} is not ${wants}`
  return ''
}

function isTenant(id: string): boolean {
  try {
    parseTenant(id)
    return true
  } catch {
    return false // it is none
  }
}
