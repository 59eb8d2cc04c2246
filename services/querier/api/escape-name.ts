// Names that older parsers do not take, made such that they do. Rule: Prometheus' escaping schemes for UTF-8 names.
import type { FederateEscaping } from '../../../shared/contracts/query.ts'

const plain = /^[a-zA-Z_:][a-zA-Z0-9_:]*$/

export const isPlainName = (name: string): boolean => plain.test(name)

export function escapeName(name: string, scheme: FederateEscaping): string {
  if (name === '' || scheme === 'allow-utf-8') return name
  if (isPlainName(name)) return name // it concerns nobody
  if (scheme === 'dots') return dotted(name)
  return scheme === 'values' ? `U__${each(name, codeOf)}` : each(name, (character) => character.plain ?? '_')
}

interface Character {
  readonly text: string
  /** The character itself where it may stand. */
  readonly plain: string | undefined
}

function each(name: string, write: (character: Character) => string): string {
  let out = ''
  for (const text of name) {
    const isKept = /[a-zA-Z_:]/.test(text) || (out !== '' && /[0-9]/.test(text))
    out += write({ text, plain: isKept ? text : undefined })
  }
  return out
}

function dotted(name: string): string {
  return each(name, ({ text, plain }) => (text === '_' ? '__' : text === '.' ? '_dot_' : (plain ?? '__')))
}

function codeOf({ text, plain }: Character): string {
  return text === '_' ? '__' : (plain ?? `_${text.codePointAt(0)!.toString(16)}_`)
}
