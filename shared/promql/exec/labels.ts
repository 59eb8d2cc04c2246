// Edits of label sets, as operators need them: always a new list, always sorted by name.
import type { Breath } from '../../base/breathing.ts'
import { sortLong } from '../../base/long-sort.ts'
import { compareBytes, compareLabels, type Labels, labelOf, METRIC_NAME } from '../../model/labels.ts'
import { keyPart } from '../../model/text-key.ts'

export const NO_LABELS: Labels = []

function isMetadata(name: string): boolean {
  return name.length === 8 && (name === METRIC_NAME || name === '__type__' || name === '__unit__')
}

/** Without the metric's name, type and unit: what an operation leaves when its result is another metric. */
export function dropMetadata(labels: Labels): Labels {
  let kept = 0
  let firstIsTheOnly = labels[0] === METRIC_NAME
  for (let i = 0; i < labels.length; i += 2) {
    if (!isMetadata(labels[i]!)) kept += 2
    else if (i > 0) firstIsTheOnly = false
  }
  if (kept === labels.length) return labels
  if (firstIsTheOnly) return labels.slice(2)
  const rest: string[] = []
  for (let i = 0; i < labels.length; i += 2) if (!isMetadata(labels[i]!)) rest.push(labels[i]!, labels[i + 1]!)
  return rest
}

/** `dropMetadata` that answers for one array with one array: series that share a label set go on sharing it. */
export function metadataDropper(): (labels: Labels) => Labels {
  const known = new Map<Labels, Labels>()
  return (labels) => {
    let rest = known.get(labels)
    if (rest === undefined) {
      rest = dropMetadata(labels)
      known.set(labels, rest)
    }
    return rest
  }
}

/** Distinct label sets stay distinct without their metadata: all have one name and neither type nor unit. */
export async function stayDistinct(sets: Iterable<{ readonly labels: Labels }>, breath: Breath): Promise<boolean> {
  let shared: string | undefined
  let before: Labels | undefined
  for (const { labels } of sets) {
    if (labels === before) continue
    if (breath.isDue(2 * labels.length)) await breath.breathe()
    before = labels
    const name = labels[0] === METRIC_NAME ? labels[1]! : labelOf(labels, METRIC_NAME)
    shared ??= name
    if (name !== shared) return false
    for (let i = 0; i < labels.length; i += 2) if (isMetadata(labels[i]!) && labels[i] !== METRIC_NAME) return false
  }
  return true
}

/** What UTF-16 orders otherwise than UTF-8 does. */
const UNSAFE_TO_COMPARE = /[\ud800-\uffff]/
/** Fewer are compared with each other, more are parted by a label first. */
const PARTED_MIN = 8

/** In the order of the labels. The list itself when it is in order already. */
export async function sortedByLabels<T extends { readonly labels: Labels }>(
  list: readonly T[],
  breath: Breath,
): Promise<readonly T[]> {
  let ordered = 1
  for (; ordered < list.length; ordered++) {
    if (compareLabels(list[ordered - 1]!.labels, list[ordered]!.labels) > 0) break
    if (breath.isDue(LABELS_WORK)) await breath.breathe()
  }
  if (ordered >= list.length) return list
  const sorted: T[] = []
  await sortLongInto(sorted, list, 0, breath)
  return sorted
}

/** Of comparing two label sets, in units of work. */
const LABELS_WORK = 50
/** Fewer are sorted at once. */
const LONG_MIN = 512

/** `sortInto` for any number. */
async function sortLongInto<T extends { readonly labels: Labels }>(
  sorted: T[],
  list: readonly T[],
  from: number,
  breath: Breath,
): Promise<void> {
  if (list.length < LONG_MIN) {
    sortInto(sorted, list, from)
    if (breath.isDue(LABELS_WORK * list.length)) await breath.breathe()
    return
  }
  const first = list[0]!.labels
  let at = from
  while (at < first.length && (await areAlikeAt(list, at, breath))) at++
  const { ended, parts } = newParting<T>()
  for (const item of list) {
    part(item, at, ended, parts)
    if (breath.isDue(LABELS_WORK)) await breath.breathe()
  }
  for (const item of ended) sorted.push(item)
  const texts = [...parts.keys()]
  let isUnsafe = false
  for (const text of texts) {
    isUnsafe ||= UNSAFE_TO_COMPARE.test(text)
    if (breath.isDue(text.length)) await breath.breathe()
  }
  for (const text of await sortLong(texts, isUnsafe ? compareBytes : compareUnits, breath)) {
    const list = parts.get(text)!
    if (list.length === 1) sorted.push(list[0]!)
    else await sortLongInto(sorted, list, at + 1, breath)
    if (breath.isDue(LABELS_WORK)) await breath.breathe()
  }
}

async function areAlikeAt(list: readonly { readonly labels: Labels }[], at: number, breath: Breath): Promise<boolean> {
  const text = list[0]!.labels[at]
  for (const { labels } of list) {
    if (labels[at] !== text) return false
    if (breath.isDue(5)) await breath.breathe()
  }
  return true
}

const newParting = <T>() => ({ ended: [] as T[], parts: new Map<string, T[]>() })

/** Puts an item to those with its text at `at`, or to those whose labels end before. */
function part<T extends { readonly labels: Labels }>(item: T, at: number, ended: T[], parts: Map<string, T[]>): void {
  const text = item.labels[at]
  const others = text === undefined ? ended : parts.get(text)
  if (others === undefined) parts.set(text!, [item])
  else others.push(item)
}

const compareUnits = (a: string, b: string) => (a < b ? -1 : a > b ? 1 : 0)

/** Appends a list in order; before `from` all label sets are alike. Series share most of their labels, so each text is compared
 *  once for many of them. */
function sortInto<T extends { readonly labels: Labels }>(sorted: T[], list: readonly T[], from: number): void {
  if (list.length < PARTED_MIN) {
    for (const item of [...list].sort((a, b) => compareLabels(a.labels, b.labels))) sorted.push(item)
    return
  }
  const first = list[0]!.labels
  let at = from
  while (at < first.length && list.every(({ labels }) => labels[at] === first[at])) at++
  const { ended, parts } = newParting<T>()
  for (const item of list) part(item, at, ended, parts)
  for (const item of ended) sorted.push(item)
  const texts = [...parts.keys()]
  if (texts.some((text) => UNSAFE_TO_COMPARE.test(text))) texts.sort(compareBytes)
  else texts.sort()
  for (const text of texts) {
    const part = parts.get(text)!
    if (part.length === 1) sorted.push(part[0]!)
    else sortInto(sorted, part, at + 1)
  }
}

export function withoutLabels(labels: Labels, names: ReadonlySet<string>): Labels {
  const rest: string[] = []
  for (let i = 0; i < labels.length; i += 2) if (!names.has(labels[i]!)) rest.push(labels[i]!, labels[i + 1]!)
  return rest
}

export function onlyLabels(labels: Labels, names: ReadonlySet<string>): Labels {
  const rest: string[] = []
  for (let i = 0; i < labels.length; i += 2) if (names.has(labels[i]!)) rest.push(labels[i]!, labels[i + 1]!)
  return rest
}

/** `name` set to `value`; an empty value removes it. */
export function withLabel(labels: Labels, name: string, value: string): Labels {
  let at = 0
  while (at < labels.length && compareBytes(labels[at]!, name) < 0) at += 2
  const isThere = labels[at] === name
  if (value === '') return isThere ? [...labels.slice(0, at), ...labels.slice(at + 2)] : labels
  return [...labels.slice(0, at), name, value, ...labels.slice(isThere ? at + 2 : at)]
}

/** A key that two label sets share exactly when they agree on `names` (a missing label is an empty one). */
export function keyOn(labels: Labels, names: readonly string[]): string {
  if (names.length === 1) return labelOf(labels, names[0]!)
  let key = ''
  for (const name of names) key += keyPart(labelOf(labels, name))
  return key
}

/** A key that two label sets share exactly when they agree on everything except `names`. */
export function keyIgnoring(labels: Labels, names: ReadonlySet<string>): string {
  let key = ''
  for (let i = 0; i < labels.length; i += 2)
    if (!names.has(labels[i]!)) key += keyPart(labels[i]!) + keyPart(labels[i + 1]!)
  return key
}

const LEGACY_NAME = /^[a-zA-Z_][a-zA-Z0-9_]*$/

/** `{__name__="x", job="y"}`, as Prometheus writes label sets into error texts. */
export function describeLabels(labels: Labels): string {
  const pairs: string[] = []
  for (let i = 0; i < labels.length; i += 2) {
    const name = labels[i]!
    pairs.push(`${LEGACY_NAME.test(name) ? name : quote(name)}=${quote(labels[i + 1]!)}`)
  }
  return `{${pairs.join(', ')}}`
}

const ESCAPES: Record<string, string> = {
  '\x07': '\\a',
  '\b': '\\b',
  '\f': '\\f',
  '\n': '\\n',
  '\r': '\\r',
  '\t': '\\t',
  '\v': '\\v',
  '\\': '\\\\',
  '"': '\\"',
}

/** A string in double quotes with Go's escapes. */
export function quote(text: string): string {
  // biome-ignore lint/suspicious/noControlCharactersInRegex: control characters are what is escaped here
  const escaped = text.replace(/[\x00-\x1f\x7f-\x9f"\\]/g, (char) => {
    const code = char.charCodeAt(0)
    if (ESCAPES[char] !== undefined) return ESCAPES[char]
    return code < 0x80 ? `\\x${code.toString(16).padStart(2, '0')}` : `\\u${code.toString(16).padStart(4, '0')}`
  })
  return `"${escaped}"`
}
