// Regular expressions as RE2 takes them: time linear in the text. What is nothing but texts with "anything" between them is looked up
// (globs.ts); of the rest is bound how large it may be when compiled, since that is what walks over every value it is tried on.
import { LRUCache } from 'lru-cache'
import { RE2JS, RE2JSException } from 're2js'
import { RefusedError } from '../base/errors.ts'
import { globSet } from './glob-sets.ts'
import { globsOf } from './globs.ts'
import { namedGroups } from './group-names.ts'

/** Instructions of a compiled pattern, unless a setting says otherwise. */
export const PATTERN_SIZE_MAX = 20_000
/** Classes and escapes take so many characters for one instruction; what is longer is not even compiled. */
const CHARACTERS_PER_INSTRUCTION = 16

/** The patterns kept, for all tenants together. */
const KEPT_MAX = 1024
const KEPT_CHARACTERS_MAX = 16 * 1024 * 1024

/** Throws what RE2JS throws for what is no pattern, and RefusedError `err-carillon-pattern-size` for one that is too large. */
export function compilePattern(source: string, { flags = 0, sizeMax = PATTERN_SIZE_MAX } = {}): RE2JS {
  if (source.length > sizeMax * CHARACTERS_PER_INSTRUCTION) throw tooLarge(sizeMax)
  const pattern = RE2JS.compile(namedGroups(source).source, flags)
  if (pattern.programSize() > sizeMax) throw tooLarge(sizeMax)
  return pattern
}

/** A pattern that must match all of a value, with `.` for every character. */
export interface ValuePattern {
  readonly matches: (value: string) => boolean
  /** Each test walks the value through an automaton. */
  readonly isAutomaton?: true
  /** Only these values can match, when they are known. */
  readonly onlyValues?: readonly string[]
}

interface Kept {
  readonly pattern: ValuePattern
  readonly size: number
}

const kept = new LRUCache<string, Kept>({
  max: KEPT_MAX,
  maxSize: KEPT_CHARACTERS_MAX,
  sizeCalculation: (_, source) => source.length + 1,
})

/** Throws as `compilePattern`. Whoever only carries out what a checked query asks for gives no bound. */
export function valuePattern(source: string, sizeMax = Number.POSITIVE_INFINITY): ValuePattern {
  const known = kept.get(source)
  if (known !== undefined && known.size <= sizeMax) return known.pattern
  const globs = globsOf(source)
  const set = globs === undefined ? undefined : globSet(globs)
  const made = set === undefined ? automatonOf(source, sizeMax) : { pattern: set, size: 0 }
  kept.set(source, made)
  return made.pattern
}

function automatonOf(source: string, sizeMax: number): Kept {
  const automaton = compiledWhole(source, sizeMax)
  return {
    pattern: { matches: (value) => automaton.matches(value), isAutomaton: true },
    size: automaton.programSize(),
  }
}

/** What is wrong with a pattern is told without the flag, which would stand in the text. */
function compiledWhole(source: string, sizeMax: number): RE2JS {
  try {
    return compilePattern(source, { flags: RE2JS.DOTALL, sizeMax })
  } catch (error) {
    if (error instanceof RE2JSException) compilePattern(source, { sizeMax })
    throw error
  }
}

function tooLarge(sizeMax: number): RefusedError {
  const text = `a regular expression compiles to more than ${sizeMax} instructions (err-carillon-pattern-size)`
  return new RefusedError('err-carillon-pattern-size', text)
}
