// elections: which replica of an HA pair is stored (LOG-22), and what distributors know beside it.
//
// Bucket `elections`:  {tenant}.{cluster}   JSON ElectionRecord; changed by compare-and-set only (create, update and delete of a
//                                           known revision), by distributors and, by hand, through a gateway; watched by all distributors.
//                                           What changes keep of it: shared/elections
// electionNews   addressed   distributor.{id}.elections   what that distributor has heard and dropped; lost when it ends
import { addressed, cbor } from '../bus/contract.ts'
import { jsonRecord, keyFor, record } from '../bus/record.ts'
import { aFlag, aName, aTenant, aWhole, ifThere } from '../bus/shape.ts'
import { encodeTenant } from '../model/tenant.ts'
import { sha256Of } from '../wire/sha256.ts'

export const ELECTIONS_BUCKET = 'elections'
const CLUSTER_TOKEN_MAX = 200

export interface ElectionRecord {
  readonly v: 1
  readonly cluster: string
  readonly replica: string
  /** Wall clock of the distributor (or gateway) that wrote it; for people, and for `capOf`. */
  readonly electedAtMs: number
  readonly renewedAtMs: number
  /** No accepted sample is newer; up to a few seconds ahead of the newest one. */
  readonly newestSampleMs: number
  /** Samples up to this time are the former replicas'. Absent: there was none. */
  readonly guardMs?: number
  /** Only a person changes the replica. */
  readonly frozen?: boolean
  readonly takeovers: number
}

/** A name too long for a subject stands there as its hash; the record holds the name itself. */
export function clusterToken(cluster: string): string {
  const token = encodeTenant(cluster)
  return token.length <= CLUSTER_TOKEN_MAX ? token : `__${sha256Of(cluster)}` // no encoded name has two `_` in a row
}

export const electionRecord = record({
  name: 'election',
  bucket: ELECTIONS_BUCKET,
  key: '{tenant}.{cluster}',
  format: jsonRecord<ElectionRecord>(1, {
    ...{ cluster: aName, replica: aName, electedAtMs: aWhole, renewedAtMs: aWhole, newestSampleMs: aWhole },
    ...{ guardMs: ifThere(aWhole), frozen: ifThere(aFlag), takeovers: aWhole },
  }),
  isSound: ({ cluster }, params) => clusterToken(cluster) === params.cluster,
  unreadable: 'what a distributor knew before holds and is written over it; where none did, a replica is elected anew',
  newer: 'pushes of that cluster are 503 err-carillon-election-unavailable at this version',
  doc: 'the elected replica of an HA pair, its bounds in sample time, takeovers',
})

export const electionKey = (tenant: string, cluster: string): string =>
  keyFor(electionRecord, { tenant, cluster: clusterToken(cluster) })

export interface ElectionNewsRequest {
  /** Absent: of all tenants. */
  readonly tenant?: string
}

/** One replica as one distributor knows it. */
export interface HeardReplica {
  readonly replica: string
  /** Since it last sent something to this distributor. */
  readonly silentMs: number
  /** Its samples that were dropped here, since this distributor started. */
  readonly dropped: number
}

export interface ElectionNewsReply {
  readonly elections: readonly {
    readonly tenant: string
    readonly cluster: string
    readonly replicas: readonly HeardReplica[]
  }[]
}

export const electionNews = addressed({
  name: 'electionNews',
  subject: 'distributor.{id}.elections',
  servedBy: 'distributor',
  askedBy: ['gateway'],
  request: cbor<ElectionNewsRequest>({ tenant: ifThere(aTenant) }),
  reply: cbor<ElectionNewsReply>(),
  timeoutMs: 5_000,
  requestBytesMax: 4 * 1024,
  replyBytesMax: 16 * 1024 * 1024,
  doc: 'which replicas of HA pairs one distributor has heard, and what it dropped of them',
})
