// Which series of a head match: postings narrow, labels decide.
//
// A matcher that an absent label would pass cannot narrow, it only filters. Of the others the one with the fewest series by its known
// values gives the candidates, and others whose series stand in one list are intersected with them; a pattern looks through the values of its name only when no matcher has known values.
import type { CompiledMatcher } from '../matcher-set.ts'
import type { Postings } from './postings.ts'
import type { SeriesTable } from './series-table.ts'
import type { StringTable } from './string-table.ts'

export interface SeriesIndex {
  readonly strings: StringTable
  readonly series: SeriesTable
  readonly postings: Postings
}

/** From one series in so many on it is cheaper to mark the refs of a union than to sort them. */
const MANY = 16

/** The refs of the series that pass all matchers, rising. */
export function selectRefs(index: SeriesIndex, matchers: readonly CompiledMatcher[]): Uint32Array {
  const narrowing = matchers.filter((matcher) => !matcher.matchesEmpty)
  const chosen = smallest(index, narrowing) ?? byPattern(index, narrowing)
  let refs = chosen?.refs ?? allRefs(index.series.count)
  const left: CompiledMatcher[] = []
  for (const matcher of matchers) {
    if (matcher === chosen?.matcher) continue
    const list = chosen === undefined ? undefined : onlyList(index, matcher)
    if (list === undefined) left.push(matcher)
    else refs = intersection(refs, list)
  }
  return filter(index, refs, left)
}

/** The series that pass a matcher, where one list holds them all. */
function onlyList(index: SeriesIndex, matcher: CompiledMatcher): Uint32Array | undefined {
  if (matcher.matchesEmpty || matcher.onlyValues === undefined) return undefined
  const lists = knownLists(index, matcher, matcher.onlyValues)
  return lists.length === 1 ? lists[0] : undefined
}

/** What stands in both of two rising lists; `few` is the shorter one. */
function intersection(few: Uint32Array, many: Uint32Array): Uint32Array {
  const both = new Uint32Array(few.length)
  let count = 0
  let at = 0
  for (let i = 0; i < few.length; i++) {
    const ref = few[i]!
    if (many[at]! < ref) {
      let stride = 1
      while (at + stride < many.length && many[at + stride]! < ref) {
        at += stride
        stride *= 2
      }
      let end = Math.min(at + stride, many.length) // here many[end] >= ref
      for (at++; at < end; ) {
        const middle = (at + end) >>> 1
        if (many[middle]! < ref) at = middle + 1
        else end = middle
      }
    }
    if (at === many.length) break
    if (many[at] === ref) both[count++] = ref
  }
  return both.subarray(0, count)
}

interface Candidates {
  readonly matcher: CompiledMatcher
  readonly refs: Uint32Array
}

/** The candidates of the matcher whose known values have the fewest series. */
function smallest(index: SeriesIndex, matchers: readonly CompiledMatcher[]): Candidates | undefined {
  let best: { matcher: CompiledMatcher; lists: Uint32Array[]; count: number } | undefined
  for (const matcher of matchers) {
    if (matcher.onlyValues === undefined) continue
    const lists = knownLists(index, matcher, matcher.onlyValues)
    const count = lists.reduce((sum, list) => sum + list.length, 0)
    if (best === undefined || count < best.count) best = { matcher, lists, count }
  }
  return best && { matcher: best.matcher, refs: union(best.lists, index.series.count) }
}

function knownLists(
  { strings, postings }: SeriesIndex,
  { name }: CompiledMatcher,
  values: readonly string[],
): Uint32Array[] {
  const nameNumber = strings.find(name)
  if (nameNumber === undefined) return []
  const lists: Uint32Array[] = []
  for (const value of values) {
    const valueNumber = strings.find(value)
    if (valueNumber !== undefined) lists.push(postings.list(nameNumber, valueNumber))
  }
  return lists
}

function byPattern(
  { strings, postings, series }: SeriesIndex,
  matchers: readonly CompiledMatcher[],
): Candidates | undefined {
  const matcher = matchers[0]
  if (matcher === undefined) return undefined
  const lists: Uint32Array[] = []
  const nameNumber = strings.find(matcher.name)
  if (nameNumber !== undefined) {
    postings.eachValue(nameNumber, (value, refs) => {
      if (matcher.matches(strings.text(value))) lists.push(refs)
    })
  }
  return { matcher, refs: union(lists, series.count) }
}

function allRefs(count: number): Uint32Array {
  const refs = new Uint32Array(count)
  for (let i = 0; i < count; i++) refs[i] = i
  return refs
}

/** The refs of lists of different values of one name, which are disjoint, in one rising list. */
function union(lists: readonly Uint32Array[], seriesCount: number): Uint32Array {
  if (lists.length === 1) return lists[0]!
  const refs = new Uint32Array(lists.reduce((sum, list) => sum + list.length, 0))
  let at = 0
  if (refs.length * MANY < seriesCount) {
    for (const list of lists) {
      refs.set(list, at)
      at += list.length
    }
    return refs.sort()
  }
  const isIn = new Uint8Array(seriesCount)
  for (const list of lists) for (let i = 0; i < list.length; i++) isIn[list[i]!] = 1
  for (let ref = 0; ref < seriesCount; ref++) if (isIn[ref] === 1) refs[at++] = ref
  return refs
}

function filter(
  { strings, series }: SeriesIndex,
  refs: Uint32Array,
  matchers: readonly CompiledMatcher[],
): Uint32Array {
  const tests = matchers.map((matcher) => valueTest(strings, matcher))
  const names = matchers.map((matcher) => strings.find(matcher.name) ?? -1)
  const kept = new Uint32Array(refs.length)
  let count = 0
  for (let i = 0; i < refs.length; i++) {
    const ref = refs[i]!
    let passes = true
    for (let m = 0; m < tests.length && passes; m++)
      passes = tests[m]!(names[m]! < 0 ? -1 : series.valueOf(ref, names[m]!))
    if (passes) kept[count++] = ref
  }
  return kept.slice(0, count)
}

/** Tests a value by its number (−1: absent), each number once. */
function valueTest(strings: StringTable, matcher: CompiledMatcher): (value: number) => boolean {
  const known = new Map<number, boolean>([[-1, matcher.matchesEmpty]])
  return (value) => {
    let passes = known.get(value)
    if (passes === undefined) {
      passes = matcher.matches(strings.text(value))
      known.set(value, passes)
    }
    return passes
  }
}
