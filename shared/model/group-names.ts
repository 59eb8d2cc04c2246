// Names of groups in regular expressions. Go takes one name for several groups, and means the first of them that took part; RE2JS does not.

export interface NamedGroups {
  /** The pattern with a name of its own for every group. */
  readonly source: string
  /** The numbers of the groups of a name, in their order. */
  readonly numbersOf: ReadonlyMap<string, readonly number[]>
}

/** Escapes, quotes, classes: what stands in them begins no group. */
const PARTS = /\\Q[\s\S]*?(?:\\E|$)|\\[\s\S]|\[\^?\]?(?:\[:\^?\w+:\]|\\[\s\S]|[^\]\\])*\]|\((?:\?(?:P?<(\w+)>)?)?/g

export function namedGroups(source: string): NamedGroups {
  const numbersOf = new Map<string, number[]>()
  if (!source.includes('<')) return { source, numbersOf }
  let count = 0
  const renamed = source.replace(PARTS, (part: string, name: string | undefined) => {
    if (part === '(' || name !== undefined) count++
    if (name === undefined) return part
    const numbers = numbersOf.get(name)
    if (numbers === undefined) {
      numbersOf.set(name, [count])
      return part
    }
    numbers.push(count)
    return '(' // nobody asks for it by name
  })
  return { source: renamed, numbersOf }
}
