// Matchers made ready to test values: equality by text, patterns by sets of texts or RE2 (linear time, anchored, `.` matches line ends too).
import { type Clock, systemClock } from '../base/clock.ts'
import { RefusedError, textOf } from '../base/errors.ts'
import type { Matcher } from '../model/matcher.ts'
import { PATTERN_SIZE_MAX, type ValuePattern, valuePattern } from '../model/pattern.ts'

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

/** Throws as `compileMatcher`, and RefusedError `err-carillon-pattern-size`: for what comes from outside, and is not a query that was parsed. */
export function checkPatterns(matchers: readonly Matcher[], sizeMax = PATTERN_SIZE_MAX): void {
  for (const { operator, value } of matchers) if (operator === '=~' || operator === '!~') patternOf(value, sizeMax)
}

export function compileMatchers(matchers: readonly Matcher[]): CompiledMatcher[] {
  return matchers.map(compileMatcher)
}

function patternOf(source: string, sizeMax?: number): ValuePattern {
  try {
    return valuePattern(source, sizeMax)
  } catch (error) {
    if (error instanceof RefusedError) throw error
    throw new RefusedError('err-carillon-bad-matcher', `pattern "${source}" is not RE2: ${textOf(error)}`, {
      cause: error,
    })
  }
}
