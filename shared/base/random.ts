// Chance comes in by the door: system randomness in production, one seed in tests and simulation.
import { randomFillSync } from 'node:crypto'

export interface Random {
  /** A float in [0, 1). */
  next(): number
  /** An integer in [0, below). */
  below(below: number): number
  /** Fresh random bytes. */
  bytes(count: number): Uint8Array
}

/** Drawn from the system in advance: a call for every request id costs more than the id. */
const pool = new Uint8Array(4096)
let poolUsed = pool.length

export const systemRandom: Random = {
  next: () => Math.random(),
  below: (below) => Math.floor(Math.random() * below),
  bytes(count) {
    if (count > pool.length / 8) return randomFillSync(new Uint8Array(count))
    if (poolUsed + count > pool.length) {
      randomFillSync(pool)
      poolUsed = 0
    }
    const bytes = pool.slice(poolUsed, poolUsed + count)
    pool.fill(0, poolUsed, poolUsed + count) // given once, kept nowhere
    poolUsed += count
    return bytes
  },
}

/** A small, fast generator (mulberry32) that repeats itself for one seed. Not for secrets. */
export function seededRandom(seed: number): Random {
  let state = seed >>> 0
  const next = () => {
    state = (state + 0x6d2b79f5) >>> 0
    let t = Math.imul(state ^ (state >>> 15), 1 | state)
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t
    return ((t ^ (t >>> 14)) >>> 0) / 4294967296
  }
  return {
    next,
    below: (below) => Math.floor(next() * below),
    bytes: (count) => Uint8Array.from({ length: count }, () => Math.floor(next() * 256)),
  }
}

/** Lower-case hex of `bytes`. */
export function hex(bytes: Uint8Array): string {
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength).toString('hex')
}
