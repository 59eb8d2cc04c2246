// Matchers made ready to test values: equality by text, patterns by RE2 (linear time, anchored, `.` matches line ends too).
//
// Frequent shapes need no automaton: `a|b|c` is a set, `a.*` and `a.+` are prefixes, `.*` and `.+` are free.
import { LRUCache } from 'lru-cache'
import { RE2JS } from 're2js'
import { type Clock, systemClock } from '../base/clock.ts'
import { RefusedError, textOf } from '../base/errors.ts'
import type { Matcher } from '../model/matcher.ts'
import { compilePattern, literalAlternatives } from '../model/pattern.ts'

/** The patterns kept compiled, for all tenants together. */
const PATTERNS_MAX = 1024
/** Longer ones that are only texts are made again each time: that is quick, and remote reads ask with many of them. */
const TEXTS_KEPT_LENGTH_MAX = 4096

/** What the patterns of one question may take at one source. */
const WORK_MS_MAX = 5_000
/** Characters of value × pattern below which only every so many tests are measured. */
const LIGHT_TEST = 4096
const MEASURED_EVERY = 16

export interface CompiledMatcher {
  readonly name: string
  /** Whether a value passes; an absent label is ''. */
  readonly matches: (value: string) => boolean
  /** Whether series without the label pass. */
  readonly matchesEmpty: boolean
  /** Only these values can pass, when they are few and known. */
  readonly onlyValues?: readonly string[]
  /** Each test walks the value through an automaton. */
  readonly isAutomaton?: true
}

interface Pattern {
  readonly matches: (value: string) => boolean
  readonly isAutomaton?: true
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
      const { matches, isAutomaton } = patternOf(value)
      const compiled = { name, matches: (text: string) => !matches(text), matchesEmpty: !matches('') }
      return isAutomaton ? { ...compiled, isAutomaton } : compiled
    }
  }
}

/** For one question: as `compileMatchers`, but what its patterns may take in all is bound, because they are tried on every value while nothing
 *  else happens. Beyond it a test throws RefusedError `err-carillon-pattern-work` (422). */
export function compileForSelect(matchers: readonly Matcher[], clock: Clock = systemClock): CompiledMatcher[] {
  const work = { ms: 0 }
  return matchers.map((matcher) => {
    const compiled = compileMatcher(matcher)
    if (!compiled.isAutomaton) return compiled
    return { ...compiled, matches: measured(matcher, compiled.matches, work, clock) }
  })
}

function measured(
  { name, value: pattern }: Matcher,
  matches: CompiledMatcher['matches'],
  work: { ms: number },
  clock: Clock,
): CompiledMatcher['matches'] {
  let untilMeasured = 0
  return (value) => {
    const weight = value.length * pattern.length < LIGHT_TEST ? MEASURED_EVERY : 1
    if (weight > 1 && untilMeasured-- > 0) return matches(value)
    untilMeasured = weight - 1
    const startedMs = clock.monotonic()
    const isMatch = matches(value)
    work.ms += (clock.monotonic() - startedMs) * weight
    if (work.ms <= WORK_MS_MAX) return isMatch
    const text = `the pattern of label "${name}" takes too long to test on its values (err-carillon-pattern-work)`
    throw new RefusedError('err-carillon-pattern-work', text, { status: 422 })
  }
}

export function compileMatchers(matchers: readonly Matcher[]): CompiledMatcher[] {
  return matchers.map(compileMatcher)
}

function patternOf(source: string): Pattern {
  const known = patterns.get(source)
  if (known !== undefined) return known
  const pattern = shapeOf(source) ?? automatonOf(source)
  if (pattern.isAutomaton || source.length <= TEXTS_KEPT_LENGTH_MAX) patterns.set(source, pattern)
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
    return { matches: (value) => automaton.matches(value), isAutomaton: true }
  } catch (error) {
    if (error instanceof RefusedError) throw error
    throw new RefusedError('err-carillon-bad-matcher', `pattern "${source}" is not RE2: ${textOf(error)}`, {
      cause: error,
    })
  }
}
