// The pie: 65,536 tokens, each of them a piece of the series, dealt out to the partitions.
//
// Invariants
//   PIE-1  The pie is a function of the number of partitions alone.
//   PIE-2  A new partition takes tokens from those that hold most, and nothing else moves: adding one to n moves 1/(n + 1) of the series.
//   PIE-3  Partitions hold equally many tokens, one more or less; with the most partitions there may be (1,024) that is 64 each.
import { assert } from '../base/assert.ts'
import { mix } from './hash.ts'

const TOKEN_BITS = 16
const TOKENS = 1 << TOKEN_BITS
export const PARTITIONS_MAX = 1024

/** The partition of each token. */
export type Pie = Uint16Array

let newest: { readonly partitionCount: number; readonly pie: Pie } | undefined

/** Some milliseconds for a thousand partitions: the newest is kept, for all who ask for the same number (PIE-1). */
export function pieOf(partitionCount: number): Pie {
  if (newest?.partitionCount !== partitionCount) newest = { partitionCount, pie: cut(partitionCount) }
  return newest.pie
}

function cut(partitionCount: number): Pie {
  assert(partitionCount >= 1 && partitionCount <= PARTITIONS_MAX, `1 to ${PARTITIONS_MAX} partitions`)
  const held: number[][] = [Array.from({ length: TOKENS }, (_, token) => token)]
  for (let count = 2; count <= partitionCount; count++) held.push(takeShare(held, Math.floor(TOKENS / count)))
  const pie = new Uint16Array(TOKENS)
  held.forEach((tokens, partition) => {
    for (const token of tokens) pie[token] = partition
  })
  return pie
}

/** Takes `share` tokens, one by one from the partition that holds most, the lower number first (PIE-2, PIE-3). */
function takeShare(held: readonly number[][], share: number): number[] {
  const taken: number[] = []
  let most = Math.max(...held.map((tokens) => tokens.length))
  while (taken.length < share) {
    for (const tokens of held) {
      if (tokens.length === most && taken.length < share) taken.push(tokens.pop()!)
    }
    if (!held.some((tokens) => tokens.length === most)) most--
  }
  return taken
}

/** The partition of a series, from the 32-bit hash of its tenant and label set. */
export function partitionOf(seriesHash: number, pie: Pie): number {
  return pie[mix(seriesHash) >>> (32 - TOKEN_BITS)]!
}
