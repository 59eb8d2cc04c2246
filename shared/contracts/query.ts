// query: PromQL and its neighbours as questions anyone with NATS credentials may ask; the gateway's HTTP API is made of them.
//
// query.{tenant}.{kind}   question, queue `querier`. kind: one of QUERY_KINDS
//                         delete_preview (match[], start, end: {series, samples} that a deletion would hide)
// Request: JSON (CBOR when the header `Content-Type: application/cbor` says so) with the parameters of the HTTP API of the same
// name, as strings: {"query":"up","time":"1700000000"}; `match` is a list. Reply: the body that the HTTP API answers
// ({"status":"success","data":…}), in the form of the request, so that nothing between the querier and the caller has to look into it.
// remote_read.{tenant}     streamed, queue `querier`. The question `read` for answers of any size: the same parameters, and the same bytes in
//                         pieces; an error before the first of them is a piece of its own, one later ends the stream.
// Errors: answered in Prometheus' shape inside the reply ({"status":"error","errorType":…}); STATUS_OF_ERROR_TYPE gives the HTTP status.
import { RefusedError } from '../base/errors.ts'
import { type Codec, question, raw, streamed } from '../bus/contract.ts'

export const QUERY_KINDS = [
  'instant',
  'range',
  'series',
  'labels',
  'label_values',
  'metadata',
  'exemplars',
  'format',
  'delete_preview',
  'parse',
  'federate',
  'read',
  'tsdb',
  'cardinality_label_names',
  'cardinality_label_values',
  'cardinality_active_series',
  'features',
] as const
export type QueryKind = (typeof QUERY_KINDS)[number]

/** Those that are answered with something else than `{"status":"success",…}`. None of them ever begins like an error. */
export const RAW_KINDS: ReadonlySet<QueryKind> = new Set<QueryKind>([
  'federate',
  'read',
  'cardinality_label_names',
  'cardinality_label_values',
  'cardinality_active_series',
])
/** The answer of `read` begins with one of these bytes; the body that HTTP has follows. */
export const READ_SAMPLES = 0
export const READ_CHUNKS = 1
export const ERROR_START = '{"status":"error"'

/** How names that older parsers do not take are written. */
export const FEDERATE_ESCAPINGS = ['underscores', 'dots', 'values', 'allow-utf-8'] as const
export type FederateEscaping = (typeof FEDERATE_ESCAPINGS)[number]
/** text: 0.0.4 · protobuf: MetricFamily messages, each behind its length. */
export const FEDERATE_FORMATS = ['text', 'protobuf'] as const
export type FederateFormat = (typeof FEDERATE_FORMATS)[number]

/** Parameters as HTTP brings them. `match` holds every `match[]`; `name` the label of label_values. */
export interface QueryParams {
  readonly query?: string
  readonly time?: string
  readonly start?: string
  readonly end?: string
  readonly step?: string
  readonly timeout?: string
  readonly limit?: string
  readonly lookback_delta?: string
  readonly stats?: string
  readonly metric?: string
  readonly limit_per_metric?: string
  readonly name?: string
  readonly match?: readonly string[]
  /** federate: one of FEDERATE_ESCAPINGS. */
  readonly escaping?: string
  /** federate: one of FEDERATE_FORMATS. */
  readonly format?: string
  /** read: a snappy-compressed ReadRequest in base64. */
  readonly body?: string
  /** cardinality: which series, and the labels that label_values counts. */
  readonly selector?: string
  readonly count_method?: string
  readonly label_names?: readonly string[]
  /** `true`: a partition without a live owner is left out with a warning. */
  readonly partial_response?: string
  /** `strong`, or a log position that a push returned. */
  readonly read_consistency?: string
  /** `true`: no result that was kept is used, and none is kept. */
  readonly no_store?: string
  /** `auto` (by the step), `raw`, or the length of the longest windows that may stand for samples, such as `5m`. */
  readonly max_source_resolution?: string
}

/** Those that are one text each: all but lists. */
export const QUERY_TEXTS = [
  'query',
  'time',
  'start',
  'end',
  'step',
  'timeout',
  'limit',
  'lookback_delta',
  'stats',
  'metric',
  'limit_per_metric',
  'name',
  'partial_response',
  'read_consistency',
  'no_store',
  'max_source_resolution',
  'escaping',
  'format',
  'body',
  'selector',
  'count_method',
] as const satisfies readonly (keyof QueryParams)[]

const jsonRequest: Codec<QueryParams> = {
  encode: (params) => Buffer.from(JSON.stringify(params)),
  decode(bytes) {
    try {
      const value: unknown = JSON.parse(Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length).toString())
      if (typeof value === 'object' && value !== null && !Array.isArray(value)) return value as QueryParams
    } catch (cause) {
      throw new RefusedError('err-carillon-bad-message', 'a query is asked with a JSON object of its parameters', {
        cause,
      })
    }
    throw new RefusedError('err-carillon-bad-message', 'a query is asked with a JSON object of its parameters')
  },
}

export const query = question({
  name: 'query',
  subject: 'query.{tenant}.{kind}',
  servedBy: 'querier',
  askedBy: ['gateway', 'outside'],
  queue: 'querier',
  request: jsonRequest,
  reply: raw, // the body alone, so that a person at a NATS prompt reads plain JSON
  timeoutMs: 130_000,
  requestBytesMax: 10 * 1024 * 1024,
  replyBytesMax: 256 * 1024 * 1024,
  doc: 'PromQL and metadata queries, JSON in and out',
})

/** Of one piece of an answer that comes in pieces. */
export const PIECE_BYTES_MAX = 1024 * 1024

export const remoteRead = streamed({
  name: 'remoteRead',
  subject: 'remote_read.{tenant}',
  servedBy: 'querier',
  askedBy: ['gateway'],
  queue: 'querier',
  request: jsonRequest,
  frame: raw,
  timeoutMs: query.timeoutMs,
  requestBytesMax: 64 * 1024 * 1024,
  frameBytesMax: PIECE_BYTES_MAX,
  doc: 'remote reads of any size, in pieces',
})

/** The parameters that belong to HTTP errors of Prometheus' API: error type → HTTP status. */
export const STATUS_OF_ERROR_TYPE: Readonly<Record<string, number>> = {
  bad_data: 400,
  execution: 422,
  canceled: 499,
  timeout: 503,
  internal: 500,
  not_found: 404,
  unavailable: 503,
  too_many_requests: 429,
}
