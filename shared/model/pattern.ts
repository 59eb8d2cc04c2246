// Regular expressions as RE2 takes them: time linear in the text, and bounds on how large one may be, since what is compiled is walked for
// every value that it is tried on.
import { RE2JS } from 're2js'
import { RefusedError } from '../base/errors.ts'

/** Characters of a pattern. Plain alternatives (`a|b|c`) need no automaton and are not bound by it. */
export const PATTERN_LENGTH_MAX = 64 * 1024
/** Instructions of a compiled pattern. */
export const PATTERN_SIZE_MAX = 20_000

/** Throws what RE2JS throws for what is no pattern, and RefusedError `err-carillon-pattern-size` for one that is too large. */
export function compilePattern(source: string, flags = 0): RE2JS {
  if (source.length > PATTERN_LENGTH_MAX) throw tooLarge(`has more than ${PATTERN_LENGTH_MAX} characters`)
  const pattern = RE2JS.compile(source, flags)
  if (pattern.programSize() > PATTERN_SIZE_MAX) throw tooLarge(`compiles to more than ${PATTERN_SIZE_MAX} instructions`)
  return pattern
}

const META = new Set('\\^$.[](){}*+?')

/** The texts that a pattern stands for when it is nothing but texts with bars between them; punctuation may be escaped. */
export function literalAlternatives(source: string): string[] | undefined {
  const texts: string[] = []
  let text = ''
  for (let at = 0; at < source.length; at++) {
    const character = source[at]!
    if (character === '|') {
      texts.push(text)
      text = ''
    } else if (character === '\\') {
      const next = source[++at] ?? ''
      if (!/^[!-/:-@[-`{-~]$/.test(next)) return undefined
      text += next
    } else if (META.has(character)) return undefined
    else text += character
  }
  texts.push(text)
  return texts
}

function tooLarge(how: string): RefusedError {
  const text = `a regular expression ${how} (err-carillon-pattern-size)`
  return new RefusedError('err-carillon-pattern-size', text)
}
