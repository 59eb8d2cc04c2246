// What a record says, for tests that know that it can be read.
import type { RecordContract } from '../shared/bus/record.ts'

export function valueIn<P extends string, T>(record: RecordContract<P, T>, bytes: Uint8Array): T {
  const decoded = record.format.decode(bytes)
  if (decoded.kind === 'value') return decoded.value
  throw new Error(`${record.name}: ${decoded.reason}`)
}
