// active queries: what queriers are answering now, and how one of these queries is ended.
//
// activeQueries   addressed   querier.{id}.active   of one tenant, or of all; only what waits for its turn or runs
// cancelQuery     addressed   querier.{id}.cancel   ends one; isCancelled is false where that tenant has no such query here
import { addressed, cbor } from '../bus/contract.ts'
import { aText, ifThere } from '../bus/shape.ts'

/** Characters of a query that are shown. */
export const QUERY_SHOWN_MAX = 2_000

export interface ActiveQuery {
  /** Unique over all queriers and restarts. */
  readonly id: string
  readonly tenant: string
  readonly kind: string
  /** The expression, or the selectors; cut at QUERY_SHOWN_MAX. */
  readonly query: string
  readonly querier: string
  /** As whoever asked named it; '' where nobody did. */
  readonly requestId: string
  /** Wall clock of the querier, ms. */
  readonly sinceMs: number
  readonly tookMs: number
  readonly timeoutMs: number
  readonly isRunning: boolean
  readonly readSeries: number
  readonly readSamples: number
}

export interface ActiveRequest {
  /** Absent: of all tenants. */
  readonly tenant?: string
}

export interface CancelRequest extends ActiveRequest {
  readonly query: string
}

export interface ActiveReply {
  readonly queries: readonly ActiveQuery[]
}

export interface CancelReply {
  readonly isCancelled: boolean
}

const common = { timeoutMs: 2_000, requestBytesMax: 8 * 1024 } as const

export const activeQueries = addressed({
  name: 'activeQueries',
  subject: 'querier.{id}.active',
  servedBy: 'querier',
  askedBy: ['gateway', 'outside'],
  ...common,
  replyBytesMax: 16 * 1024 * 1024,
  request: cbor<ActiveRequest>({ tenant: ifThere(aText) }),
  reply: cbor<ActiveReply>(),
  doc: 'the queries that one querier is answering',
})
export const cancelQuery = addressed({
  name: 'cancelQuery',
  subject: 'querier.{id}.cancel',
  servedBy: 'querier',
  askedBy: ['gateway', 'outside'],
  ...common,
  replyBytesMax: 1024,
  request: cbor<CancelRequest>({ query: aText, tenant: ifThere(aText) }),
  reply: cbor<CancelReply>(),
  doc: 'ends one query of a tenant',
})
