// Which series of a block can match: posting lists narrow, labels decide.
//
// A matcher that an absent label would pass cannot narrow, it only filters. Of the others, the one with the shortest lists gives the
// candidates and the next longer ones are intersected with them, until reading a list costs more than looking at the candidates.
import type { CompiledMatcher } from '../matcher-set.ts'
import type { BlockFiles } from './files.ts'
import type { Toc } from './layout.ts'
import { intersection, readUnion } from './posting-lists.ts'
import type { ListPlace, PostingsTable } from './postings-table.ts'
import type { ReadCall } from './series.ts'

/** Bytes of a list that are worth reading to be spared the look at one candidate. */
const BYTES_PER_CANDIDATE = 256
/** With at most so many candidates the values of a name are not looked through for a pattern. */
const CANDIDATES_FEW = 1024

export interface Choice {
  /** Rising. */
  readonly refs: Uint32Array
  /** What the lists have not decided. */
  readonly left: readonly CompiledMatcher[]
}

interface Lists {
  readonly matcher: CompiledMatcher
  readonly places: readonly ListPlace[]
  readonly bytes: number
}

export interface ChoiceIndex {
  readonly files: BlockFiles
  readonly toc: Toc
  readonly table: PostingsTable
}

export async function chooseSeries(
  index: ChoiceIndex,
  matchers: readonly CompiledMatcher[],
  call: ReadCall = {},
): Promise<Choice> {
  const narrowing = matchers.filter((matcher) => !matcher.matchesEmpty)
  const left = matchers.filter((matcher) => matcher.matchesEmpty)
  const known: Lists[] = []
  const patterns: CompiledMatcher[] = []
  for (const matcher of narrowing) {
    if (matcher.onlyValues === undefined) patterns.push(matcher)
    else known.push(listsOf(matcher, await index.table.find(matcher.name, matcher.onlyValues, call)))
  }
  let refs = await narrow(index, undefined, known, left, call)
  if (patterns.length > 0) {
    if (refs !== undefined && refs.length <= CANDIDATES_FEW) {
      left.push(...patterns)
    } else {
      const found: Lists[] = []
      for (const pattern of patterns) found.push(await matchingLists(index, pattern, call))
      refs = await narrow(index, refs, found, left, call)
    }
  }
  refs ??= await readUnion(index.files, index.toc, await index.table.all(call), call)
  return { refs, left }
}

/** Intersects the candidates with the lists, shortest first; what is not worth reading goes to `left`. */
async function narrow(
  { files, toc }: ChoiceIndex,
  candidates: Uint32Array | undefined,
  lists: readonly Lists[],
  left: CompiledMatcher[],
  call: ReadCall,
): Promise<Uint32Array | undefined> {
  let refs = candidates
  for (const { matcher, places, bytes } of [...lists].sort((a, b) => a.bytes - b.bytes)) {
    if (refs === undefined) refs = await readUnion(files, toc, places, call)
    else if (refs.length === 0) return refs
    else if (bytes > refs.length * BYTES_PER_CANDIDATE) left.push(matcher)
    else refs = intersection(refs, await readUnion(files, toc, places, call))
  }
  return refs
}

async function matchingLists({ table }: ChoiceIndex, matcher: CompiledMatcher, call: ReadCall): Promise<Lists> {
  const places: ListPlace[] = []
  const take = (value: string, place: () => ListPlace): void => {
    if (matcher.matches(value)) places.push(place())
  }
  await table.eachValue(matcher.name, take, call)
  return listsOf(matcher, places)
}

function listsOf(matcher: CompiledMatcher, places: readonly ListPlace[]): Lists {
  return { matcher, places, bytes: places.reduce((sum, { start, end }) => sum + end - start, 0) }
}
