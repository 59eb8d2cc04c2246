// Regular expressions that are nothing but texts with "anything" between them, written out: `(a|b)(:.*)?` is `a`, `b`, `a:…`, `b:…`. What
// dashboards send are such, with thousands of alternatives; they are looked up, no automaton walks them. Model: Prometheus' FastRegexMatcher.
//
// Understood are texts, escaped punctuation, `.*`, `.+`, groups of any kind and depth, `?`, and `^`, `$` where they say nothing new.

/** Stand for `.*` and `.+` in a glob. Halves of characters: no text holds one. */
export const ANY = '\uDC00'
export const SOME = '\uDC01'
const BEGIN = '\uDC02'
const END = '\uDC03'

/** What one pattern may be written out to; beyond it an automaton is smaller. */
const GLOBS_MAX = 100_000
const CHARACTERS_MAX = 8 * 1024 * 1024
const DEPTH_MAX = 100

const TEXT = /[^\\^$.[\](){}*+?|]+/y
const GROUP = /\((?:\?:|\?P?<\w+>|(?!\?))/y
const PUNCTUATION = /^[!-/:-@[-`{-~]$/

/** Any of the globs matches where the pattern matches all of a value, with `.` for every character. undefined: it is not such a pattern, or none. */
export function globsOf(source: string): readonly string[] | undefined {
  if (!source.isWellFormed()) return undefined
  const expansion = new Expansion(source)
  const globs = expansion.alternatives(0)
  if (globs === undefined || !expansion.isAtEnd()) return undefined
  const tidied: string[] = []
  for (const glob of globs) {
    const own = tidy(glob)
    if (own === undefined) return undefined
    tidied.push(own)
  }
  return tidied
}

class Expansion {
  private readonly source: string
  private at = 0

  constructor(source: string) {
    this.source = source
  }

  isAtEnd(): boolean {
    return this.at === this.source.length
  }

  alternatives(depth: number): string[] | undefined {
    const all: string[] = []
    for (;;) {
      const globs = this.sequence(depth)
      if (globs === undefined || all.length + globs.length > GLOBS_MAX) return undefined
      for (const glob of globs) all.push(glob)
      if (this.source[this.at] !== '|') return all
      this.at++
    }
  }

  private sequence(depth: number): string[] | undefined {
    let globs = ['']
    while (!this.isAtEnd() && this.source[this.at] !== '|' && this.source[this.at] !== ')') {
      const next = this.piece(depth)
      const all = next === undefined ? undefined : product(globs, next)
      if (all === undefined) return undefined
      globs = all
    }
    return globs
  }

  private piece(depth: number): string[] | undefined {
    switch (this.source[this.at]) {
      case '^':
        return this.unrepeated(BEGIN)
      case '$':
        return this.unrepeated(END)
      case '.':
        return this.wildcard()
      case '(': {
        const globs = this.group(depth)
        return globs === undefined ? undefined : this.maybeOptional(globs)
      }
      case '\\': {
        const next = this.source[this.at + 1] ?? ''
        if (!PUNCTUATION.test(next)) return undefined
        this.at += 2
        return this.maybeOptional([next])
      }
      default:
        return this.text()
    }
  }

  private group(depth: number): string[] | undefined {
    GROUP.lastIndex = this.at
    if (depth === DEPTH_MAX || !GROUP.test(this.source)) return undefined
    this.at = GROUP.lastIndex
    const globs = this.alternatives(depth + 1)
    return globs !== undefined && this.source[this.at++] === ')' ? globs : undefined
  }

  private wildcard(): string[] | undefined {
    const repeat = this.source[++this.at]
    if (repeat !== '*' && repeat !== '+') return undefined
    this.at++
    if (this.source[this.at] === '?') this.at++ // as little as possible is as well: all of the value is matched
    return this.isRepeated() ? undefined : [repeat === '*' ? ANY : SOME]
  }

  private text(): string[] | undefined {
    TEXT.lastIndex = this.at
    if (!TEXT.test(this.source)) return undefined
    const end = TEXT.lastIndex
    const next = this.source[end] ?? ''
    if (!'*+?{'.includes(next) || next === '') {
      const text = this.source.slice(this.at, end)
      this.at = end
      return [text]
    }
    const all = [...this.source.slice(this.at, end)] // what follows repeats the last character alone
    const last = all.pop()!
    if (all.length > 0) {
      this.at = end - last.length
      return [all.join('')]
    }
    this.at = end
    return this.maybeOptional([last])
  }

  private maybeOptional(globs: string[]): string[] | undefined {
    if (this.source[this.at] !== '?') return this.isRepeated() ? undefined : globs
    this.at++
    if (this.source[this.at] === '?') this.at++
    return this.isRepeated() ? undefined : [...globs, '']
  }

  private unrepeated(glob: string): string[] | undefined {
    this.at++
    return this.isRepeated() ? undefined : [glob]
  }

  private isRepeated(): boolean {
    return !this.isAtEnd() && '*+?{'.includes(this.source[this.at]!)
  }
}

/** Each of one before each of the other. */
function product(left: string[], right: string[]): string[] | undefined {
  if (left.length === 1 && right.length === 1) return [left[0]! + right[0]!]
  if (left.length * right.length > GLOBS_MAX) return undefined
  const characters = (globs: string[]) => globs.reduce((sum, glob) => sum + glob.length, 0)
  if (characters(left) * right.length + characters(right) * left.length > CHARACTERS_MAX) return undefined
  return left.flatMap((before) => right.map((after) => before + after))
}

/** Without anchors where they say nothing new, and doubled wildcards; undefined where they do say something. */
function tidy(glob: string): string | undefined {
  let [start, end] = [0, glob.length]
  while (glob[start] === BEGIN) start++
  while (end > start && glob[end - 1] === END) end--
  const own = glob
    .slice(start, end)
    .replace(/\uDC00+/g, ANY)
    .replace(/\uDC01\uDC00|\uDC00\uDC01/g, SOME)
  return /[\uDC02\uDC03]|[\uDC00\uDC01]{2}/.test(own) ? undefined : own
}
