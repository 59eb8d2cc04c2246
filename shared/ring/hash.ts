// The hashes of the ring: cheap, the same on every machine, good in all bits.

/** 32-bit FNV-1a over UTF-16 units, then mixed. */
export function hashText(text: string): number {
  let hash = 0x811c9dc5
  for (let i = 0; i < text.length; i++) hash = Math.imul(hash ^ text.charCodeAt(i), 0x01000193)
  return mix(hash >>> 0)
}

/** Spreads every bit over all bits; one to one on 32 bits, unsigned. */
export function mix(value: number): number {
  let h = value
  h = Math.imul(h ^ (h >>> 16), 0x85ebca6b)
  h = Math.imul(h ^ (h >>> 13), 0xc2b2ae35)
  return (h ^ (h >>> 16)) >>> 0
}
