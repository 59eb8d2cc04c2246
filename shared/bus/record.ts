// Records: what stands under the keys of a KV bucket, as values: the fourth kind of contract beside question, addressed and topic. A bucket
// may hold anything: what a person wrote by hand, what a tool left half done, what another version writes. So reading never throws:
//
//   value           what it says, in the shape that its type promises
//   newer-version   written by a newer version of Carillon; nothing is made from it, nothing is written over it
//   unreadable      neither; or the key or the record is not that of the other
//
// Keys are tokens joined by `.`; a token is literal or one `{parameter}`. `{tenant}` stands for a tenant's id and travels encoded
// (shared/model/tenant.ts), `{partition}` for its number; every other parameter is a token as it is.
import { assert } from '../base/assert.ts'
import { encodeTenant, tenantIn } from '../model/tenant.ts'
import { isLegalToken, type ParamNames } from './contract.ts'
import { faultOf, isObject, isWhole, type Shape } from './shape.ts'

export type RecordParams<P extends string> = { readonly [K in P]: K extends 'partition' ? number : string }

/** Where a record stands. */
export interface RecordKey<P extends string> {
  readonly kind: 'record'
  /** Stable, for logs and metrics. */
  readonly name: string
  readonly bucket: string
  readonly key: string
  /** The newest version of its format that is known. */
  readonly version: number
  readonly doc: string
  /** What holds while it cannot be read, in words: of an unreadable one, and of a newer one. */
  readonly unreadable: string
  readonly newer: string
  /** Never set: carries the parameter names for the compiler. */
  readonly paramNames?: P
}

export interface RecordContract<P extends string, T> extends RecordKey<P> {
  readonly format: Format<T>
  /** Whether the fields fit each other, and the key that they stand under; they do unless told. */
  readonly isSound?: (value: T, params: RecordParams<P>, key: string) => boolean
}

export interface Format<T> {
  readonly version: number
  encode(value: T): Uint8Array
  decode(bytes: Uint8Array): Decoded<T>
}

export type Decoded<T> =
  | { readonly kind: 'value'; readonly value: T }
  | { readonly kind: 'newer-version'; readonly reason: string }
  | { readonly kind: 'unreadable'; readonly reason: string }

type Spec<S extends string, C extends RecordKey<ParamNames<S>>> = Omit<C, 'kind' | 'key' | 'version' | 'paramNames'> & {
  readonly key: S
}

/** A place in a bucket whose bytes are read by a codec of their own (shared/blocks/codec.ts). */
export function recordKey<const S extends string>(
  spec: Spec<S, RecordKey<ParamNames<S>>> & { readonly version: number },
): RecordKey<ParamNames<S>> {
  return checked({ ...spec, kind: 'record' })
}

export function record<const S extends string, T>(
  spec: Spec<S, RecordContract<ParamNames<S>, T>>,
): RecordContract<ParamNames<S>, T> {
  return checked({ ...spec, kind: 'record', version: spec.format.version })
}

function checked<R extends RecordKey<string>>(made: R): R {
  for (const token of made.key.split('.'))
    assert(
      /^(?:[a-z_]+|\{[a-z]+\})$/.test(token),
      `record ${made.name}: token "${token}" is neither literal nor {name}`,
    )
  return Object.freeze(made)
}

// ---- keys ----

interface Token {
  encode(value: string | number): string
  /** undefined: no value has this token. */
  decode(token: string): string | number | undefined
}

const tokens: Readonly<Record<string, Token>> = {
  tenant: {
    encode: (id) => encodeTenant(String(id)),
    decode: tenantIn,
  },
  partition: {
    encode: String,
    decode: (token) => (/^(?:0|[1-9]\d{0,8})$/.test(token) ? Number(token) : undefined),
  },
}
const asItIs: Token = { encode: String, decode: (token) => (isLegalToken(token) ? token : undefined) }
const paramOf = (token: string): string | undefined => (token.startsWith('{') ? token.slice(1, -1) : undefined)
const tokenOf = (param: string): Token => tokens[param] ?? asItIs

export function keyFor<P extends string>(place: RecordKey<P>, params: RecordParams<P>): string {
  return keysFor(place, params)
}

/** What to watch: parameters that are not given become `*`. */
export function keysFor<P extends string>(place: RecordKey<P>, fixed: Partial<RecordParams<P>>): string {
  const values = fixed as Readonly<Record<string, string | number | undefined>>
  return place.key
    .split('.')
    .map((token) => {
      const param = paramOf(token)
      if (param === undefined) return token
      const value = values[param]
      return value === undefined ? '*' : tokenOf(param).encode(value)
    })
    .join('.')
}

/** The parameters in a key; undefined when it is no key of this record. */
export function paramsOf<P extends string>(place: RecordKey<P>, key: string): RecordParams<P> | undefined {
  const wanted = place.key.split('.')
  const came = key.split('.')
  if (came.length !== wanted.length) return undefined
  const params: Record<string, string | number> = {}
  for (const [i, token] of wanted.entries()) {
    const param = paramOf(token)
    if (param === undefined) {
      if (came[i] !== token) return undefined
      continue
    }
    const value = tokenOf(param).decode(came[i]!)
    if (value === undefined) return undefined
    params[param] = value
  }
  return params as RecordParams<P>
}

/** What stands under a key of this record. Never throws. */
export function decodeAt<P extends string, T>(
  contract: RecordContract<P, T>,
  { key, params, bytes }: { key: string; params: RecordParams<P>; bytes: Uint8Array },
): Decoded<T> {
  const decoded = contract.format.decode(bytes)
  if (decoded.kind !== 'value' || (contract.isSound?.(decoded.value, params, key) ?? true)) return decoded
  return { kind: 'unreadable', reason: 'its fields do not fit each other, or belong under another key' }
}

// ---- formats ----

/** JSON `{"v":1,…}`, one object. One without `v` is of version 1. `older` fills in what former versions did not write. */
export function jsonRecord<T extends object>(
  version: number,
  shape: Shape<Omit<T, 'v'>>,
  older: (fields: Readonly<Record<string, unknown>>) => object = () => ({}),
): Format<T> {
  return {
    version,
    encode: (value) => Buffer.from(JSON.stringify(value)),
    decode(bytes) {
      const parsed = parsedJson(bytes)
      if (!isObject(parsed)) return unreadable(parsed === undefined ? 'it is not JSON' : 'it is not a JSON object')
      const v = parsed['v'] ?? 1
      if (isWhole(v) && v > version) return newerVersion(v, version)
      if (!isWhole(v) || v < 1) return unreadable('its version is no number from 1 on')
      const fields = { ...parsed, ...older(parsed) }
      const fault = faultOf(fields, shape)
      return fault === '' ? { kind: 'value', value: fields as T } : unreadable(fault)
    },
  }
}

/** One whole number from 0 to `max`, as its digits. A later version is an object that says which. */
export function numberRecord(max: number): Format<number> {
  return {
    version: 1,
    encode: (value) => Buffer.from(String(value)),
    decode(bytes) {
      const parsed = parsedJson(bytes)
      if (isObject(parsed) && isWhole(parsed['v']) && parsed['v'] > 1) return newerVersion(parsed['v'], 1)
      if (isWhole(parsed) && parsed >= 0 && parsed <= max) return { kind: 'value', value: parsed }
      return unreadable(`it is no whole number up to ${max}`)
    },
  }
}

const unreadable = (reason: string): Decoded<never> => ({ kind: 'unreadable', reason })

function newerVersion(version: number, known: number): Decoded<never> {
  return { kind: 'newer-version', reason: `it is of version ${version}, this version of Carillon knows ${known}` }
}

const utf8 = new TextDecoder('utf-8', { fatal: true })

/** undefined: it is no JSON in UTF-8. */
function parsedJson(bytes: Uint8Array): unknown {
  try {
    return JSON.parse(utf8.decode(bytes))
  } catch {
    return undefined // the caller says so
  }
}
