// Many globs at once (globs.ts): which values does one of them match.
import { ANY, SOME } from './globs.ts'

/** Globs with more than one wildcard are tried one after the other. */
const TRIED_MAX = 100

export interface GlobSet {
  readonly matches: (value: string) => boolean
  /** Only these values match. */
  readonly onlyValues?: readonly string[]
}

/** undefined where too many would have to be tried one by one. */
export function globSet(globs: readonly string[]): GlobSet | undefined {
  const texts = new Set<string>()
  const affixes = new Affixes()
  const tried: string[] = []
  for (const glob of globs) {
    const wildcards = countOf(glob)
    if (wildcards === 0) texts.add(glob)
    else if (wildcards === 1) affixes.add(glob)
    else tried.push(glob)
  }
  if (tried.length > TRIED_MAX) return undefined
  if (affixes.isEmpty() && tried.length === 0) return ofTexts(texts)
  const own = tried.map(compiledGlob)
  return {
    matches: (value) => texts.has(value) || affixes.matches(value) || own.some((matches) => matches(value)),
  }
}

function ofTexts(texts: ReadonlySet<string>): GlobSet {
  const onlyValues = [...texts]
  const [only] = onlyValues
  return { matches: onlyValues.length === 1 ? (value) => value === only : (value) => texts.has(value), onlyValues }
}

function isWildcard(character: string | undefined): boolean {
  return character === ANY || character === SOME
}

function countOf(glob: string): number {
  let count = 0
  for (let at = 0; at < glob.length; at++) if (isWildcard(glob[at])) count++
  return count
}

/** What stands behind a beginning: ends, each with the least length of what lies between. */
interface Ends {
  readonly gapMins: Map<string, number>
  readonly lengths: Set<number>
}

/** Globs `beginning…end`, either of them perhaps empty. One look-up for each length that a beginning, and an end, has. */
class Affixes {
  private readonly byBeginning = new Map<string, Ends>()
  private readonly lengths = new Set<number>()

  isEmpty(): boolean {
    return this.byBeginning.size === 0
  }

  add(glob: string): void {
    const at = glob.search(/[\uDC00\uDC01]/)
    const [beginning, end] = [glob.slice(0, at), glob.slice(at + 1)]
    const gapMin = glob[at] === SOME ? 1 : 0
    const ends = this.byBeginning.get(beginning) ?? { gapMins: new Map(), lengths: new Set() }
    this.byBeginning.set(beginning, ends)
    this.lengths.add(beginning.length)
    ends.gapMins.set(end, Math.min(gapMin, ends.gapMins.get(end) ?? 1))
    ends.lengths.add(end.length)
  }

  matches(value: string): boolean {
    for (const length of this.lengths) {
      const ends = length <= value.length ? this.byBeginning.get(value.slice(0, length)) : undefined
      if (ends === undefined) continue
      for (const endLength of ends.lengths) {
        const gap = value.length - length - endLength
        const gapMin = gap < 0 ? undefined : ends.gapMins.get(value.slice(value.length - endLength))
        if (gapMin !== undefined && gap >= gapMin) return true
      }
    }
    return false
  }
}

/** Its texts in their order, each as early as it can be. */
function compiledGlob(glob: string): (value: string) => boolean {
  const texts = glob.split(/[\uDC00\uDC01]/)
  const gapMins = [...glob].filter(isWildcard).map((wildcard) => (wildcard === SOME ? 1 : 0))
  const [first = ''] = texts
  const last = texts.at(-1) ?? ''
  return (value) => {
    if (!value.startsWith(first) || !value.endsWith(last)) return false
    let at = first.length
    for (let index = 1; index < texts.length - 1; index++) {
      const found = value.indexOf(texts[index]!, at + gapMins[index - 1]!)
      if (found < 0) return false
      at = found + texts[index]!.length
    }
    return value.length - last.length - at >= gapMins.at(-1)!
  }
}
