// What the headers of a push say that its body is. The table in README.md ("What a body is taken for") says the same in words. As Prometheus and
// Cortex have it: what is not said is taken for remote write 1.0, what is said and not known is refused, and senders that know more fall back.
import { RefusedError } from '../../../shared/base/errors.ts'

/** `proto=` of a content type, lower case → the protocol. */
const PROTOS: Readonly<Record<string, 1 | 2>> = {
  'prometheus.writerequest': 1,
  'io.prometheus.write.v2.request': 2,
}
const MEDIA_TYPE = 'application/x-protobuf'
/** None is taken for snappy: there is no other way to send. */
const ENCODINGS: readonly string[] = ['', 'snappy']

/** Throws RefusedError 415 `err-carillon-unsupported-media-type`. */
export function protocolOf(contentType = ''): 1 | 2 {
  const [mediaType = '', ...parameters] = contentType.split(';').map((part) => part.trim().toLowerCase())
  if (mediaType === '' && parameters.every((each) => each === '')) return 1
  const protos = parameters
    .map((each) => each.split('=').map((part) => part.trim()))
    .flatMap(([name, value = '']) => (name === 'proto' ? [value.replace(/^"(.*)"$/, '$1')] : []))
  const protocol = protos.length === 0 ? 1 : PROTOS[protos.at(-1)!]
  if (mediaType === MEDIA_TYPE && protocol !== undefined) return protocol
  throw unsupported(
    `content type "${contentType.slice(0, 200)}" is not accepted, send application/x-protobuf;proto=prometheus.WriteRequest ` +
      'or application/x-protobuf;proto=io.prometheus.write.v2.Request',
  )
}

/** Throws as `protocolOf`. */
export function checkEncoding(encoding = ''): void {
  const given = encoding.trim().toLowerCase()
  if (ENCODINGS.includes(given)) return
  throw unsupported(`content encoding "${given.slice(0, 200)}" is not accepted, send snappy (block format)`)
}

function unsupported(text: string): RefusedError {
  return new RefusedError('err-carillon-unsupported-media-type', text, { status: 415 })
}
