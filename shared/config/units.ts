// Durations, byte sizes and numbers as people write them, and back.

const durationUnits: readonly (readonly [string, number])[] = [
  ['w', 604_800_000],
  ['d', 86_400_000],
  ['h', 3_600_000],
  ['m', 60_000],
  ['s', 1_000],
  ['ms', 1],
]

/** Read, but not shown: a year is 365 days, as in Prometheus. */
const yearMs = 31_536_000_000

const byteUnits: readonly (readonly [string, number])[] = [
  ['TiB', 2 ** 40],
  ['GiB', 2 ** 30],
  ['MiB', 2 ** 20],
  ['KiB', 2 ** 10],
  ['TB', 1e12],
  ['GB', 1e9],
  ['MB', 1e6],
  ['KB', 1e3],
  ['B', 1],
]

/** Milliseconds in `5ms`, `1m30s`, `1.5h`, `2w`, `1y`, `0`; undefined when the text is no duration. */
export function parseDuration(text: string): number | undefined {
  if (text === '0') return 0
  if (!/^(\d+(\.\d+)?(ms|[ywdhms]))+$/.test(text)) return undefined
  let ms = 0
  for (const [, number, unit] of text.matchAll(/(\d+(?:\.\d+)?)(ms|[ywdhms])/g)) {
    ms += Number(number) * (unit === 'y' ? yearMs : (durationUnits.find(([name]) => name === unit)?.[1] ?? Number.NaN))
  }
  return ms
}

/** A text that `parseDuration` reads as `ms`. */
export function showDuration(ms: number): string {
  if (ms === 0) return '0'
  let left = ms
  let text = ''
  for (const [unit, size] of durationUnits) {
    const count = unit === 'ms' ? left : Math.floor(left / size)
    if (count > 0) text += `${count}${unit}`
    left -= count * size
  }
  return text
}

/** Bytes in `256KiB`, `8MB`, `1.5GiB`, `1024`; undefined when the text is no size. */
export function parseBytes(text: string): number | undefined {
  const match = /^(\d+(?:\.\d+)?)\s*([KMGT]i?B?|B)?$/i.exec(text)
  if (match === null) return undefined
  const unit = (match[2] ?? 'B').toLowerCase()
  const name = unit.endsWith('b') ? unit : `${unit}b`
  const size = byteUnits.find(([known]) => known.toLowerCase() === name)?.[1]
  return size === undefined ? undefined : Math.round(Number(match[1]) * size)
}

/** The largest unit that divides `bytes`, e.g. `256KiB`. */
export function showBytes(bytes: number): string {
  if (bytes === 0) return '0'
  const [unit, size] = byteUnits.find(([, each]) => bytes % each === 0) ?? ['B', 1]
  return `${bytes / size}${unit}`
}

/** A finite decimal number; undefined for anything else. */
export function parseNumber(text: string): number | undefined {
  return /^[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?$/.test(text) ? Number(text) : undefined
}

/** The nearest of `names` that is at most a third of its letters away, for "did you mean". */
export function nearest(name: string, names: Iterable<string>): string | undefined {
  let best: string | undefined
  let bestDistance = Math.max(1, Math.floor(name.length / 3)) + 1
  for (const candidate of names) {
    const distance = editDistance(name, candidate)
    if (distance < bestDistance) {
      bestDistance = distance
      best = candidate
    }
  }
  return best
}

function editDistance(a: string, b: string): number {
  let previous = Array.from({ length: b.length + 1 }, (_, index) => index)
  for (let i = 1; i <= a.length; i++) {
    const row = [i]
    for (let j = 1; j <= b.length; j++) {
      const replaced = (previous[j - 1] ?? 0) + (a[i - 1] === b[j - 1] ? 0 : 1)
      row.push(Math.min(replaced, (previous[j] ?? 0) + 1, (row[j - 1] ?? 0) + 1))
    }
    previous = row
  }
  return previous[b.length] ?? 0
}
