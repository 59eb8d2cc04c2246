// The kinds of character codes that the language tells apart. Only ASCII: `é` is neither a letter nor a digit here.

export function isSpace(c: number): boolean {
  return c === 0x20 || c === 0x09 || c === 0x0a || c === 0x0d
}

export function isDigit(c: number): boolean {
  return c >= 0x30 && c <= 0x39
}

export function isAlpha(c: number): boolean {
  return c === 0x5f || (c >= 0x61 && c <= 0x7a) || (c >= 0x41 && c <= 0x5a)
}

export function isAlphaNumeric(c: number): boolean {
  return isAlpha(c) || isDigit(c)
}

export function digitOf(c: number): number {
  if (isDigit(c)) return c - 0x30
  if (c >= 0x61 && c <= 0x66) return c - 0x61 + 10
  if (c >= 0x41 && c <= 0x46) return c - 0x41 + 10
  return 16
}
