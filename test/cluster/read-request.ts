// What a remote reader sends: a ReadRequest in protobuf, not compressed.
import type { Matcher } from '../../shared/model/matcher.ts'
import { Writer } from '../../shared/wire/varint.ts'

export interface PlainReadQuery {
  readonly matchers: readonly Matcher[]
  readonly startMs: number
  readonly endMs: number
}

const OPERATORS = ['=', '!=', '=~', '!~']

/** `shapes`: 0 samples, 1 streamed chunks, in the order of preference. */
export function readRequest(queries: readonly PlainReadQuery[], shapes: readonly number[]): Uint8Array {
  const out = new Writer()
  for (const { matchers, startMs, endMs } of queries) {
    const query = new Writer()
    putNumber(query, 1, startMs)
    putNumber(query, 2, endMs)
    for (const { name, operator, value } of matchers) {
      const matcher = new Writer()
      putNumber(matcher, 1, OPERATORS.indexOf(operator))
      putBytes(matcher, 2, Buffer.from(name))
      putBytes(matcher, 3, Buffer.from(value))
      putBytes(query, 3, matcher.view())
    }
    putBytes(out, 1, query.view())
  }
  if (shapes.length > 0) putBytes(out, 2, Uint8Array.from(shapes))
  return out.finish()
}

function putNumber(out: Writer, field: number, value: number): void {
  out.uvarint(field * 8)
  out.uvarint(value)
}

function putBytes(out: Writer, field: number, bytes: Uint8Array): void {
  out.uvarint(field * 8 + 2)
  out.uvarint(bytes.length)
  out.bytes(bytes)
}
