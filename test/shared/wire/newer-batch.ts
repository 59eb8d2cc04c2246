// A batch as a version that is not known yet would write it: its checksum holds, its fields are more than any known version has.
import { crc32c } from '../../../shared/wire/crc32c.ts'

export function newerBatch(version: number): Buffer {
  const fields = Buffer.of(0x94, ...new Array<number>(20).fill(0)) // CBOR: twenty zeros
  const head = Buffer.of(0x43, 0x42, version, 0, 0, 0, 0, 0)
  head.writeUInt32LE(crc32c(fields), 4)
  return Buffer.concat([head, fields])
}
