// Typed arrays that grow: the new array holds the old elements and half as many again.

export function grownU32(array: Uint32Array, needed: number): Uint32Array<ArrayBuffer> {
  const wider = new Uint32Array(grownLength(array.length, needed))
  wider.set(array)
  return wider
}

export function grownU8(array: Uint8Array, needed: number): Uint8Array<ArrayBuffer> {
  const wider = new Uint8Array(grownLength(array.length, needed))
  wider.set(array)
  return wider
}

export function grownF64(array: Float64Array, needed: number): Float64Array<ArrayBuffer> {
  const wider = new Float64Array(grownLength(array.length, needed))
  wider.set(array)
  return wider
}

export function grownLength(length: number, needed: number): number {
  return Math.max(needed, length + (length >>> 1), 8)
}
