// Contracts: what one actor may say to another, as values. Each names a subject, the types on it, and how large they may
// be; `ask.ts` and `actor.ts` turn them into messages.
//
//   question   any one instance of a queue group answers
//   addressed  the one instance named in the subject answers
//   topic      news to whoever listens; may be missed, so what it says can be read again elsewhere
//
// A streamed contract is a question or an addressed question whose answer is a row of frames.
//
// Subject templates are tokens joined by `.`; a token is literal or one `{parameter}`. A parameter's value must be one
// legal subject token: whoever calls encodes what may be anything else (tenants: shared/model/tenant.ts).
import { assert } from '../base/assert.ts'
import { RefusedError, textOf } from '../base/errors.ts'
import type { Caller, Server } from '../model/role.ts'
import { decodeCbor, encodeCbor } from './cbor.ts'
import { type Check, type Shape as Fields, faultOf, isObject } from './shape.ts'

/** The names between braces in a subject template, as a union. */
export type ParamNames<S extends string> = S extends `${string}{${infer Name}}${infer Rest}`
  ? Name | ParamNames<Rest>
  : never

export type Params<P extends string> = { readonly [K in P]: string }

interface Shape<P extends string> {
  /** Stable, for logs and metrics. */
  readonly name: string
  readonly subject: string
  /** Never set: carries the parameter names for the compiler. */
  readonly paramNames?: P
  /** Who answers; of a topic: who listens. */
  readonly servedBy: Server
  /** Who asks; of a topic: who tells. */
  readonly askedBy: readonly Caller[]
  readonly doc: string
}

interface Asked<P extends string, Req> extends Shape<P> {
  readonly kind: 'question' | 'addressed'
  readonly queue?: string
  readonly request: Codec<Req>
  readonly timeoutMs: number
  readonly requestBytesMax: number
}

export interface Question<P extends string, Req, Rep> extends Asked<P, Req> {
  readonly reply: Codec<Rep>
  readonly replyBytesMax: number
}

export interface StreamQuestion<P extends string, Req, Frame> extends Asked<P, Req> {
  readonly frame: Codec<Frame>
  readonly frameBytesMax: number
}

export interface Topic<P extends string, T> extends Shape<P> {
  readonly kind: 'topic'
  readonly value: Codec<T>
  readonly bytesMax: number
}

export type Contract<P extends string> =
  // biome-ignore lint/suspicious/noExplicitAny: the payload types do not matter where only the subject does
  Question<P, any, any> | StreamQuestion<P, any, any> | Topic<P, any>

type Spec<S extends string, C extends { kind: string }> = Omit<C, 'kind' | 'subject' | 'paramNames'> & {
  readonly subject: S
}

/** A contract that any instance of a queue group answers. */
export function question<const S extends string, Req, Rep>(
  spec: Spec<S, Question<ParamNames<S>, Req, Rep>>,
): Question<ParamNames<S>, Req, Rep> {
  return checked({ ...spec, kind: 'question' })
}

/** A contract that the one instance named in the subject answers. */
export function addressed<const S extends string, Req, Rep>(
  spec: Spec<S, Question<ParamNames<S>, Req, Rep>>,
): Question<ParamNames<S>, Req, Rep> {
  assert(spec.subject.includes('{'), `addressed contract ${spec.name} names no instance in "${spec.subject}"`)
  return checked({ ...spec, kind: 'addressed' })
}

/** A question (or, with `kind: 'addressed'`, an addressed one) that is answered by a row of frames. */
export function streamed<const S extends string, Req, Frame>(
  spec: Spec<S, StreamQuestion<ParamNames<S>, Req, Frame>> & { readonly kind?: 'question' | 'addressed' },
): StreamQuestion<ParamNames<S>, Req, Frame> {
  return checked({ ...spec, kind: spec.kind ?? 'question' })
}

/** News on a subject. `bytesMax` must fit one message. */
export function topic<const S extends string, T>(spec: Spec<S, Topic<ParamNames<S>, T>>): Topic<ParamNames<S>, T> {
  return checked({ ...spec, kind: 'topic' })
}

const subjectLengthMax = 1024
const literalToken = /^[A-Za-z0-9_-]+$/
const paramToken = /^\{[A-Za-z][A-Za-z0-9]*\}$/
// biome-ignore lint/suspicious/noControlCharactersInRegex: control characters are what it keeps out
const legalToken = /^[^\u0000-\u0020\u007f.*>]+$/

type Part = { readonly literal: string } | { readonly param: string }

const partsOf = new Map<string, readonly Part[]>()

function checked<C extends Contract<never> | Contract<string>>(contract: C): C {
  partsIn(contract.subject)
  assert(contract.name.length > 0 && contract.doc.length > 0, `contract on "${contract.subject}" lacks name or doc`)
  return Object.freeze(contract)
}

function partsIn(template: string): readonly Part[] {
  const known = partsOf.get(template)
  if (known !== undefined) return known
  const parts = template.split('.').map((token): Part => {
    if (paramToken.test(token)) return { param: token.slice(1, -1) }
    assert(literalToken.test(token), `subject template "${template}": token "${token}" is neither literal nor {name}`)
    return { literal: token }
  })
  partsOf.set(template, parts) // bounded: one entry per contract in the source
  return parts
}

/** Whether `token` may stand between two dots of a subject. */
export function isLegalToken(token: string): boolean {
  return legalToken.test(token) && token.length <= subjectLengthMax
}

/** The subject for these parameters. Throws RefusedError `err-carillon-bad-subject` for a value that is not one token. */
export function subjectFor<P extends string>(contract: Contract<P>, params: Params<P>): string {
  const subject = joined(contract, params, (name) => {
    throw new RefusedError('err-carillon-bad-subject', `${contract.name}: parameter ${name} is missing`)
  })
  if (subject.length > subjectLengthMax) {
    throw new RefusedError('err-carillon-bad-subject', `${contract.name}: subject longer than ${subjectLengthMax}`)
  }
  return subject
}

/** The subject to listen on: parameters that are not given become `*`. */
export function subjectFilter<P extends string>(contract: Contract<P>, fixed: Partial<Params<P>>): string {
  return joined(contract, fixed, () => '*')
}

function joined(contract: Contract<string>, params: object, ifAbsent: (name: string) => string): string {
  const values = params as Record<string, string | undefined>
  let subject = ''
  for (const part of partsIn(contract.subject)) {
    const token = 'literal' in part ? part.literal : tokenOf(contract, part.param, values[part.param], ifAbsent)
    subject = subject === '' ? token : `${subject}.${token}`
  }
  return subject
}

function tokenOf(
  contract: Contract<string>,
  name: string,
  value: string | undefined,
  ifAbsent: (name: string) => string,
): string {
  if (value === undefined) return ifAbsent(name)
  if (isLegalToken(value)) return value
  throw new RefusedError('err-carillon-bad-subject', `${contract.name}: ${name} "${value}" is not one subject token`)
}

/** The parameters in a subject that was received on this contract. */
export function paramsIn<P extends string>(contract: Contract<P>, subject: string): Params<P> {
  const tokens = subject.split('.')
  const params: Record<string, string> = {}
  partsIn(contract.subject).forEach((part, index) => {
    if ('param' in part) params[part.param] = tokens[index] ?? ''
  })
  return params as Params<P>
}

// --- codecs: whatever bytes come, the answer is a value or RefusedError `err-carillon-bad-message` ---

export interface Codec<T> {
  encode(value: T): Uint8Array
  decode(bytes: Uint8Array): T
}

const badMessageCode = 'err-carillon-bad-message'

const cborVersion = 1

function cborCodec(shape: Readonly<Record<string, Check>> | undefined): Codec<unknown> {
  return {
    encode(value) {
      const body = encodeCbor(value)
      const bytes = Buffer.allocUnsafe(body.length + 1)
      bytes[0] = cborVersion
      bytes.set(body, 1)
      return bytes
    },
    decode(bytes) {
      if (bytes[0] !== cborVersion) {
        const came = bytes.length === 0 ? 'an empty message' : `version byte ${bytes[0]}`
        throw new RefusedError(badMessageCode, `${came} came where version ${cborVersion} was wanted`)
      }
      const value = decodeCbor(bytes.subarray(1), { hasTypedArrays: true })
      if (shape === undefined) return value
      const fault = isObject(value) ? faultOf(value, shape) : 'it is no object'
      if (fault !== '') throw new RefusedError(badMessageCode, `message is not what was wanted: ${fault}`)
      return value
    },
  }
}

const plainCbor = cborCodec(undefined)

/** CBOR with a version byte in front. Typed arrays keep their bits; a scalar -0 becomes 0. What is asked names its `shape`: it may come from
 *  anybody. That of an answer is not checked. */
export const cbor = <T>(shape?: Fields<T>): Codec<T> =>
  (shape === undefined ? plainCbor : cborCodec(shape as Readonly<Record<string, Check>>)) as Codec<T>

/** The bytes themselves, not copied. */
export const raw: Codec<Uint8Array> = { encode: (value) => value, decode: (bytes) => bytes }

const utf8 = new TextDecoder('utf-8', { fatal: true })

const jsonCodec: Codec<unknown> = {
  encode: (value) => Buffer.from(JSON.stringify(value)),
  decode(bytes) {
    try {
      return JSON.parse(utf8.decode(bytes))
    } catch (error) {
      throw new RefusedError(badMessageCode, `message is not JSON: ${textOf(error)}`, { cause: error })
    }
  },
}

/** JSON in UTF-8. The shape is not checked. */
export const json = <T>(): Codec<T> => jsonCodec as Codec<T>
