// The 64-bit hash of a label set, equal in heads and blocks: by it a querier joins series of many sources without comparing texts first.

/** What an empty label set hashes to. */
export const HASH_A_EMPTY = 0x2545f491
export const HASH_B_EMPTY = 0x61c88647

/** Puts two words of hash that depend on the text alone into [at] and [at + 1]. */
export function hashText(text: string, target: Uint32Array, at: number): void {
  let a = 0x811c9dc5
  let b = 0x9747b28c ^ text.length
  for (let i = 0; i < text.length; i++) {
    const unit = text.charCodeAt(i)
    a = Math.imul(a ^ unit, 0x01000193)
    a ^= a >>> 15
    b = Math.imul(b ^ unit, 0x5bd1e995)
    b ^= b >>> 13
  }
  target[at] = a
  target[at + 1] = b
}

/** The first word after one more text (a name, then its value), given that text's own first word. */
export function mixA(hash: number, textA: number): number {
  const mixed = Math.imul(hash ^ textA, 0x9e3779b1)
  return mixed ^ (mixed >>> 16)
}

export function mixB(hash: number, textB: number): number {
  const mixed = Math.imul(hash ^ textB, 0x85ebca77)
  return mixed ^ (mixed >>> 13)
}
