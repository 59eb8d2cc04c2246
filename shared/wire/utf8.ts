// UTF-8 to strings: ASCII, which is nearly everything, takes a short way; anything else is decoded strictly.

const strict = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true })

/** The text of bytes [start, end), or undefined when they are not valid UTF-8. */
export function decodeUtf8(bytes: Uint8Array, start: number, end: number): string | undefined {
  let highBits = 0
  for (let i = start; i < end; i++) highBits |= bytes[i]!
  if (highBits < 128) return asciiOf(bytes, start, end)
  try {
    return strict.decode(bytes.subarray(start, end))
  } catch {
    return undefined // the caller says whose fault it is
  }
}

/** The text of bytes [start, end), faults replaced by U+FFFD. For texts that only people read. */
export function decodeUtf8Leniently(bytes: Uint8Array, start: number, end: number): string {
  return Buffer.from(bytes.buffer, bytes.byteOffset + start, end - start).toString('utf8')
}

function asciiOf(bytes: Uint8Array, start: number, end: number): string {
  if (end - start > 24) return Buffer.from(bytes.buffer, bytes.byteOffset + start, end - start).toString('latin1')
  let text = ''
  for (let i = start; i < end; i++) text += String.fromCharCode(bytes[i]!)
  return text
}
