// Tenant ids: which are allowed, and how one travels as a single token of a NATS subject.
import { RefusedError } from '../base/errors.ts'

/** Bytes of an id; the same bound as Cortex and Mimir have. */
export const TENANT_LENGTH_MAX = 150

const UNSUPPORTED = /[^0-9A-Za-z!\-_.*'()]/u
const RESERVED: readonly string[] = ['__markers__', 'user-index.json.gz']
const TOKEN = /^(?:[A-Za-z0-9-]|_[0-9A-F]{2})+$/
const strict = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true })

/** The id itself when it is allowed. The texts of the refusals are those of Cortex. */
export function parseTenant(id: string): string {
  if (id === '') throw refused('no org id')
  const unsupported = UNSUPPORTED.exec(id)
  if (unsupported) throw refused(`tenant ID '${cut(id)}' contains unsupported character '${unsupported[0]}'`)
  if (id.length > TENANT_LENGTH_MAX) throw refused(`tenant ID is too long: max ${TENANT_LENGTH_MAX} characters`)
  if (id === '.' || id === '..') throw refused("tenant ID is '.' or '..'")
  if (RESERVED.includes(id)) throw refused(`tenant ID '${id}' is not allowed`)
  return id
}

/** One token without `.`, `*`, `>` or spaces: bytes outside [A-Za-z0-9-] become `_` and two upper-case hex digits. */
export function encodeTenant(id: string): string {
  if (id === '') throw refused('no org id')
  let token = ''
  for (const byte of Buffer.from(id, 'utf8')) {
    token += isPlain(byte) ? String.fromCharCode(byte) : `_${byte.toString(16).toUpperCase().padStart(2, '0')}`
  }
  return token
}

/** The id of a token made by encodeTenant; every other token is refused, and every id that HTTP would refuse. */
export function decodeTenant(token: string): string {
  const id = tenantIn(token)
  if (id === undefined) throw refused(`tenant token '${cut(token)}' is malformed`)
  return parseTenant(id)
}

/** The id of a token made by encodeTenant; undefined for every other token. */
export function tenantIn(token: string): string | undefined {
  if (!TOKEN.test(token)) return undefined
  const bytes: number[] = []
  for (let i = 0; i < token.length; i++) {
    if (token[i] !== '_') bytes.push(token.charCodeAt(i))
    else {
      bytes.push(Number.parseInt(token.slice(i + 1, i + 3), 16))
      i += 2
    }
  }
  const id = textOf(Uint8Array.from(bytes))
  return id !== undefined && encodeTenant(id) === token ? id : undefined
}

function textOf(bytes: Uint8Array): string | undefined {
  try {
    return strict.decode(bytes)
  } catch {
    return undefined // it is none
  }
}

/** [A-Za-z0-9-] */
function isPlain(byte: number): boolean {
  const letter = byte | 32
  return (letter >= 97 && letter <= 122) || (byte >= 48 && byte <= 57) || byte === 45
}

function cut(text: string): string {
  return text.length > 200 ? `${text.slice(0, 200)}…` : text
}

function refused(text: string): RefusedError {
  return new RefusedError('err-carillon-tenant-id', text)
}
