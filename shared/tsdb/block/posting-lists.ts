// Posting lists: rising refs of the series that have a label value. And what is done with them.
import { UNHURRIED } from '../../base/breathing.ts'
import { sortLongFloats } from '../../base/long-sort.ts'
import { crc32c } from '../../wire/crc32c.ts'
import { u32At } from './bytes.ts'
import { type BlockFiles, corruptAt, INDEX_FILE, readExactly } from './files.ts'
import { CRC_BYTES, type Toc } from './layout.ts'
import type { ListPlace } from './postings-table.ts'
import { readPlaces } from './ranges.ts'
import type { ReadCall } from './series.ts'

/** Lists that are read together. */
const LISTS_AT_ONCE = 4096
/** Of reading a list, and of each of its refs, in units of work (base/breathing.ts). */
const LIST_WORK = 300
const REF_WORK = 4
/** Refs that are sorted at once. */
const SORTED_AT_ONCE = 16_384

/** The refs of all series of some lists, rising. The lists of different values of one name hold no series in common. */
export async function readUnion(
  files: BlockFiles,
  toc: Toc,
  places: readonly ListPlace[],
  call: ReadCall = {},
): Promise<Uint32Array> {
  const { breath = UNHURRIED } = call
  const sorted = [...places].sort((a, b) => a.start - b.start)
  const lists: Uint32Array[] = []
  for (let from = 0; from < sorted.length; from += LISTS_AT_ONCE) {
    lists.push(...(await readLists(files, toc, sorted.slice(from, from + LISTS_AT_ONCE), call)))
  }
  if (lists.length === 1) return lists[0]!
  const refs = new Uint32Array(lists.reduce((sum, list) => sum + list.length, 0))
  let at = 0
  for (const list of lists) {
    refs.set(list, at)
    at += list.length
  }
  if (refs.length <= SORTED_AT_ONCE) return refs.sort()
  return Uint32Array.from(await sortLongFloats(Float64Array.from(refs), breath))
}

async function readLists(
  files: BlockFiles,
  toc: Toc,
  places: readonly ListPlace[],
  { signal, breath = UNHURRIED }: ReadCall,
): Promise<Uint32Array[]> {
  const starts = places.map(({ start }) => start)
  const ends = places.map(({ end }) => end)
  const pieces = await readPlaces(files, INDEX_FILE, starts, ends, signal)
  const lists: Uint32Array[] = []
  for (let i = 0; i < places.length; i++) {
    const { base, bytes } = pieces[i]!
    const at = starts[i]! - base
    const size = 4 + u32At(bytes, at) + CRC_BYTES
    if (starts[i]! + size > toc.postingsTable) throw corruptAt(INDEX_FILE, starts[i]!, 'a posting list is too long')
    if (at + size <= bytes.length) {
      lists.push(decodeList(bytes, at, base))
    } else {
      lists.push(decodeList(await readExactly(files, INDEX_FILE, starts[i]!, starts[i]! + size, signal), 0, starts[i]!))
    }
    if (breath.isDue(LIST_WORK + REF_WORK * lists.at(-1)!.length)) await breath.breathe()
  }
  return lists
}

/** The list whose length stands at `at`; `base` is where in the index `bytes` begin. */
export function decodeList(bytes: Uint8Array, at: number, base: number): Uint32Array {
  const length = u32At(bytes, at)
  const from = at + 4
  const end = from + length
  if (end + CRC_BYTES > bytes.length || crc32c(bytes, from, end) !== u32At(bytes, end)) {
    throw corruptAt(INDEX_FILE, base + at, 'a posting list does not match its checksum')
  }
  const count = u32At(bytes, from)
  if (length !== 4 + 4 * count)
    throw corruptAt(INDEX_FILE, base + at, 'a posting list does not have the length of its count')
  const refs = new Uint32Array(count)
  let before = -1
  for (let i = 0; i < count; i++) {
    const ref = u32At(bytes, from + 4 + 4 * i)
    if (ref <= before) throw corruptAt(INDEX_FILE, base + at, 'a posting list does not rise')
    refs[i] = before = ref
  }
  return refs
}

/** What stands in both of two rising lists. */
export function intersection(a: Uint32Array, b: Uint32Array): Uint32Array {
  const [few, many] = a.length <= b.length ? [a, b] : [b, a]
  const both = new Uint32Array(few.length)
  let count = 0
  let at = 0
  for (let i = 0; i < few.length && at < many.length; i++) {
    const ref = few[i]!
    let stride = 1
    while (at + stride < many.length && many[at + stride]! <= ref) stride *= 2
    let low = at + (stride >>> 1)
    let high = Math.min(at + stride, many.length)
    while (low < high) {
      const middle = (low + high) >>> 1
      if (many[middle]! < ref) low = middle + 1
      else high = middle
    }
    at = low
    if (many[at] === ref) both[count++] = ref
  }
  return both.slice(0, count)
}
