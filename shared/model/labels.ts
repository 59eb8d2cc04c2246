// Label sets: names and values, sorted by the bytes of the name, as one flat list.
import { textsKey } from './text-key.ts'

/** [name, value, name, value, …], sorted by the UTF-8 bytes of the names, no name twice, no empty value. */
export type Labels = readonly string[]

export const METRIC_NAME = '__name__'

/** Orders by UTF-8 bytes, which for strings with surrogates differs from `<` (UTF-16 units). */
export function compareBytes(a: string, b: string): number {
  const length = Math.min(a.length, b.length)
  for (let i = 0; i < length; i++) {
    const x = a.charCodeAt(i)
    const y = b.charCodeAt(i)
    if (x === y) continue
    const isSurrogateX = x >= 0xd800 && x <= 0xdfff
    const isSurrogateY = y >= 0xd800 && y <= 0xdfff
    if (isSurrogateX === isSurrogateY) return x - y
    return isSurrogateX ? 1 : -1 // a surrogate pair encodes a code point above U+FFFF, so its bytes come last
  }
  return a.length - b.length
}

/** The value of `name`, or '' when absent (PromQL makes no difference between the two). */
export function labelOf(labels: Labels, name: string): string {
  for (let i = 0; i < labels.length; i += 2) if (labels[i] === name) return labels[i + 1]!
  return ''
}

/** Labels from a record or a list of pairs: sorted, empty values dropped. */
export function labelsFrom(pairs: Iterable<readonly [string, string]> | Record<string, string>): Labels {
  const list = Symbol.iterator in pairs ? [...pairs] : Object.entries(pairs)
  return list
    .filter(([, value]) => value !== '')
    .sort(([a], [b]) => compareBytes(a, b))
    .flat()
}

/** A string that equals another's exactly when the label sets are equal. Not for display. */
export function labelsKey(labels: Labels): string {
  return textsKey(labels)
}

/** Orders label sets as Prometheus does: by each name, then value, then the shorter first. */
export function compareLabels(a: Labels, b: Labels): number {
  const length = Math.min(a.length, b.length)
  for (let i = 0; i < length; i++) {
    if (a[i] === b[i]) continue
    return compareBytes(a[i]!, b[i]!)
  }
  return a.length - b.length
}

/** `metric{name="value"}`, for people and error texts. */
export function formatLabels(labels: Labels): string {
  const pairs: string[] = []
  for (let i = 0; i < labels.length; i += 2) {
    if (labels[i] !== METRIC_NAME) pairs.push(`${labels[i]}=${JSON.stringify(labels[i + 1])}`)
  }
  const name = labelOf(labels, METRIC_NAME)
  return pairs.length > 0 || name === '' ? `${name}{${pairs.join(', ')}}` : name
}
