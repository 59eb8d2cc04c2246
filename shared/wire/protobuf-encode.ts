// Fields of protobuf messages, written plainly: each is written whatever its value; who wants zeros left out leaves them out.
import { FIXED64, LENGTH, VARINT } from './protobuf.ts'
import type { Writer } from './varint.ts'

export function putMessage(out: Writer, field: number, message: Writer): void {
  out.uvarint(field * 8 + LENGTH)
  out.uvarint(message.length)
  out.bytes(message.view())
}

export function putText(out: Writer, field: number, text: string): void {
  out.uvarint(field * 8 + LENGTH)
  out.text(text)
}

/** A one-element Float64Array where the bits matter (stale markers), a number elsewhere. */
export function putDouble(out: Writer, field: number, value: number | Float64Array): void {
  out.uvarint(field * 8 + FIXED64)
  if (typeof value === 'number') out.number(value)
  else out.f64(value)
}

export function putSint(out: Writer, field: number, value: number): void {
  out.uvarint(field * 8 + VARINT)
  out.zigzag(value)
}

export function putInt(out: Writer, field: number, value: number): void {
  out.uvarint(field * 8 + VARINT)
  putInt64(out, value)
}

/** Ten bytes when it is negative; exact for whatever whole number a float can be. */
export function putInt64(out: Writer, value: number): void {
  if (value >= 0 && value <= Number.MAX_SAFE_INTEGER) {
    out.uvarint(value)
    return
  }
  let rest = BigInt.asUintN(64, BigInt(value))
  for (; rest >= 128n; rest >>= 7n) out.u8(Number(rest & 127n) | 128)
  out.u8(Number(rest))
}
