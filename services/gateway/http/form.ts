// The parameters of a request: of its URL, and of its body where that is a form, of either kind. A body of another type is refused, not passed over.
import { RefusedError } from '../../../shared/base/errors.ts'
import { readBody } from './body.ts'
import type { Exchange } from './exchange.ts'

const PARAMETERS_MAX = 20_000

export type Pair = [name: string, value: string]

/** The parameters of a form and of the URL, what the form says first. */
export async function readPairs(exchange: Exchange, formBytesMax: number): Promise<Pair[]> {
  const { request, search } = exchange
  const hasBody = request.method === 'POST' || request.method === 'PUT'
  const body = hasBody ? Buffer.from(await readBody(exchange, { bytesMax: formBytesMax })) : Buffer.alloc(0)
  const pairs = body.length > 0 ? formPairs(body, request.headers['content-type'] ?? '') : []
  return [...pairs, ...parsePairs(search)]
}

function formPairs(body: Buffer, type: string): Pair[] {
  if (/^application\/x-www-form-urlencoded\s*(;|$)/i.test(type)) return parsePairs(body.toString())
  if (/^multipart\/form-data\s*;/i.test(type)) return parseParts(body, boundaryOf(type))
  throw new RefusedError(
    'err-carillon-unsupported-media-type',
    `parameters come as application/x-www-form-urlencoded or multipart/form-data, not as "${type.slice(0, 100)}"`,
    { status: 415 },
  )
}

function parsePairs(text: string): Pair[] {
  let count = 1
  for (let at = text.indexOf('&'); at >= 0; at = text.indexOf('&', at + 1))
    if (++count > PARAMETERS_MAX) throw tooMany()
  return [...new URLSearchParams(text)]
}

function boundaryOf(type: string): string {
  const [, quoted, plain] = /;\s*boundary=(?:"([^"\r\n]{1,70})"|([^\s;"]{1,70}))/i.exec(type) ?? []
  const boundary = quoted ?? plain
  if (boundary === undefined) throw malformed('it names no boundary of 1 to 70 characters')
  return boundary
}

/** Files among the parts are no parameters. Rule: RFC 7578. */
function parseParts(body: Buffer, boundary: string): Pair[] {
  const pairs: Pair[] = []
  const line = `--${boundary}`
  let at = body.indexOf(line)
  if (at !== 0 && body.toString('latin1', at - 2, at) !== '\r\n') throw malformed('its boundary is not in it')
  for (let count = 0; ; count++) {
    at += line.length
    if (body.toString('latin1', at, at + 2) === '--') return pairs
    if (count === PARAMETERS_MAX) throw tooMany()
    const headAt = body.indexOf('\r\n', at)
    const bodyAt = body.indexOf('\r\n\r\n', at)
    const next = bodyAt < 0 ? -1 : body.indexOf(`\r\n${line}`, bodyAt + 2)
    if (headAt < 0 || next < 0) throw malformed('it ends within a part')
    const disposition = /^content-disposition:\s*form-data\s*;(.*)$/im.exec(body.toString('utf8', headAt, bodyAt))?.[1]
    const [, name] = /(?:^|[;\s])name="((?:[^"\\]|\\.)*)"/.exec(disposition ?? '') ?? []
    if (name === undefined) throw malformed('a part has no name')
    const isFile = /(?:^|[;\s])filename\*?=/i.test(disposition ?? '')
    if (!isFile) pairs.push([name.replace(/\\(.)/g, '$1'), body.toString('utf8', Math.min(bodyAt + 4, next), next)])
    at = next + 2
  }
}

function tooMany(): RefusedError {
  return new RefusedError('err-carillon-too-many-parameters', `a request has at most ${PARAMETERS_MAX} parameters`)
}

function malformed(why: string): RefusedError {
  return new RefusedError('err-carillon-bad-request', `the multipart form cannot be read: ${why}`)
}
