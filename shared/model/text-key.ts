// Lists of texts as keys of maps. No text can be taken for a separator, because there is none: each stands behind its length.

/** From here on a length stands in digits, behind this unit. */
const LONG = 0xffff

/** A string that two lists share exactly when they are equal, text for text. Not for display. */
export function textsKey(texts: readonly string[]): string {
  let key = ''
  for (const text of texts) key += keyPart(text)
  return key
}

/** One text of such a key, for those who put theirs together. */
export function keyPart(text: string): string {
  return (text.length < LONG ? String.fromCharCode(text.length) : `\uffff${text.length}:`) + text
}
