// CRC-32C (Castagnoli), eight bytes a step. A hot kernel.

const POLYNOMIAL = 0x82f63b78 // reflected
const TABLE = makeTable()

/** The checksum of bytes [start, end) as an unsigned 32-bit number; `seed` is the checksum of what came before. */
export function crc32c(bytes: Uint8Array, start = 0, end = bytes.length, seed = 0): number {
  const table = TABLE
  let crc = ~seed
  let i = start
  for (const stop = end - 7; i < stop; i += 8) {
    const low = crc ^ (bytes[i]! | (bytes[i + 1]! << 8) | (bytes[i + 2]! << 16) | (bytes[i + 3]! << 24))
    crc =
      table[1792 + (low & 255)]! ^
      table[1536 + ((low >>> 8) & 255)]! ^
      table[1280 + ((low >>> 16) & 255)]! ^
      table[1024 + (low >>> 24)]! ^
      table[768 + bytes[i + 4]!]! ^
      table[512 + bytes[i + 5]!]! ^
      table[256 + bytes[i + 6]!]! ^
      table[bytes[i + 7]!]!
  }
  for (; i < end; i++) crc = (crc >>> 8) ^ table[(crc ^ bytes[i]!) & 255]!
  return ~crc >>> 0
}

/** Eight tables in a row: row k gives the effect of a byte that k more bytes follow. */
function makeTable(): Int32Array {
  const table = new Int32Array(8 * 256)
  for (let byte = 0; byte < 256; byte++) {
    let crc = byte
    for (let bit = 0; bit < 8; bit++) crc = (crc & 1) === 1 ? (crc >>> 1) ^ POLYNOMIAL : crc >>> 1
    table[byte] = crc
  }
  for (let i = 256; i < table.length; i++) {
    const before = table[i - 256]!
    table[i] = (before >>> 8) ^ table[before & 255]!
  }
  return table
}
