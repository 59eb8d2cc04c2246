// Matchers made ready to test values: equality by text, patterns by RE2 (linear time, anchored, `.` matches line ends too).
//
// Frequent shapes need no automaton: `a|b|c` is a set, `a.*` and `a.+` are prefixes, `.*` and `.+` are free.
import { LRUCache } from 'lru-cache'
import { RE2JS } from 're2js'
import { RefusedError, textOf } from '../base/errors.ts'
import type { Matcher } from '../model/matcher.ts'
import { compilePattern, literalAlternatives } from '../model/pattern.ts'

/** The patterns kept compiled, for all tenants together. */
const PATTERNS_MAX = 1024

export interface CompiledMatcher {
  readonly name: string
  /** Whether a value passes; an absent label is ''. */
  readonly matches: (value: string) => boolean
  /** Whether series without the label pass. */
  readonly matchesEmpty: boolean
  /** Only these values can pass, when they are few and known. */
  readonly onlyValues?: readonly string[]
}

interface Pattern {
  readonly matches: (value: string) => boolean
  readonly onlyValues?: readonly string[]
}

const patterns = new LRUCache<string, Pattern>({ max: PATTERNS_MAX })

/** Throws RefusedError `err-carillon-bad-matcher` for a pattern that RE2 does not take. */
export function compileMatcher({ name, operator, value }: Matcher): CompiledMatcher {
  switch (operator) {
    case '=':
      return { name, matches: (text) => text === value, matchesEmpty: value === '', onlyValues: [value] }
    case '!=':
      return { name, matches: (text) => text !== value, matchesEmpty: value !== '' }
    case '=~': {
      const pattern = patternOf(value)
      return { name, ...pattern, matchesEmpty: pattern.matches('') }
    }
    case '!~': {
      const { matches } = patternOf(value)
      return { name, matches: (text) => !matches(text), matchesEmpty: !matches('') }
    }
  }
}

export function compileMatchers(matchers: readonly Matcher[]): CompiledMatcher[] {
  return matchers.map(compileMatcher)
}

function patternOf(source: string): Pattern {
  const known = patterns.get(source)
  if (known !== undefined) return known
  const pattern = shapeOf(source) ?? automatonOf(source)
  patterns.set(source, pattern)
  return pattern
}

/** The patterns that need no automaton. */
function shapeOf(source: string): Pattern | undefined {
  const literals = literalAlternatives(source)
  if (literals !== undefined) {
    const set = new Set(literals)
    const values = [...set]
    const [only] = values
    if (values.length === 1) return { matches: (value) => value === only, onlyValues: values }
    return { matches: (value) => set.has(value), onlyValues: values }
  }
  const prefix = source.slice(0, -2)
  if (!isLiteral(prefix)) return undefined
  if (source.endsWith('.*')) return { matches: (value) => value.startsWith(prefix) }
  if (source.endsWith('.+')) return { matches: (value) => value.length > prefix.length && value.startsWith(prefix) }
  return undefined
}

function isLiteral(text: string): boolean {
  return !/[\\^$.[\](){}*+?|]/.test(text)
}

function automatonOf(source: string): Pattern {
  try {
    const automaton = compilePattern(source, RE2JS.DOTALL)
    return { matches: (value) => automaton.matches(value) }
  } catch (error) {
    if (error instanceof RefusedError) throw error
    throw new RefusedError('err-carillon-bad-matcher', `pattern "${source}" is not RE2: ${textOf(error)}`, {
      cause: error,
    })
  }
}
