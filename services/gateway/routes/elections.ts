// Elections of HA pairs, to look at and to change by hand. What stands in the bucket is joined with what the distributors have heard
// and dropped; a change is a compare-and-set like any other, and holds as soon as the distributors hear of it.
import type { Clock } from '../../../shared/base/clock.ts'
import { ConflictError, RefusedError, UnavailableError } from '../../../shared/base/errors.ts'
import type { Bus } from '../../../shared/bus/port.ts'
import {
  clusterToken,
  ELECTIONS_BUCKET,
  type ElectionNewsReply,
  type ElectionRecord,
  electionNews,
  electionRecord,
} from '../../../shared/contracts/elections.ts'
import { switchedTo, withFrozen } from '../../../shared/elections/changes.ts'
import type { Told } from '../../../shared/kv/passed-over.ts'
import { readRecords } from '../../../shared/kv/read-records.ts'
import { updateRecord } from '../../../shared/kv/update.ts'
import { askMembers } from '../../../shared/membership/ask-members.ts'
import type { Membership } from '../../../shared/membership/membership.ts'
import type { GatewayConfig } from '../config.ts'
import { type Answer, type Exchange, jsonAnswer, type Route } from '../http/exchange.ts'
import { htmlPage, htmlTable } from '../pages/html.ts'

export interface ElectionDeps extends Told {
  readonly bus: Bus
  readonly clock: Clock
  readonly membership: Membership
  readonly config: GatewayConfig
}

export interface ElectionRow extends ElectionRecord {
  readonly tenant: string
  readonly frozen: boolean
  /** Since any distributor heard the elected replica; null: none has since it started. */
  readonly lastHeardMs: number | null
  /** Samples dropped, by all distributors since they started. */
  readonly dropped: number
  readonly replicas: readonly { replica: string; lastHeardMs: number; dropped: number }[]
}

export function electionRoutes(deps: ElectionDeps): readonly Route[] {
  const { bus, clock, membership, config } = deps
  const changes: Readonly<Record<string, (record: ElectionRecord, exchange: Exchange) => Promise<ElectionRecord>>> = {
    switch: switched,
    freeze: async (record) => withFrozen(record, true),
    unfreeze: async (record) => withFrozen(record, false),
  }
  const path = '/api/v1/ha/elections'
  const list: Route = {
    ...{ name: 'elections', methods: ['GET'], path, access: 'read', isOpenToAdmin: true, errors: 'json' },
    answer: async (exchange) => jsonAnswer({ elections: await rows(exchange, exchange.tenant) }),
  }
  const page: Route = {
    ...{ name: 'elections', methods: ['GET'], path: '/ha', access: 'admin', errors: 'text' },
    answer: async (exchange) => htmlPage('HA elections', bodyOf(await rows(exchange, undefined))),
  }
  const changing = Object.entries(changes).map(([verb, change]): Route => {
    return {
      ...{ name: 'elections', methods: ['POST'], path: `${path}/{cluster}/${verb}`, access: 'write' },
      ...{ isOpenToAdmin: true, errors: 'json' },
      answer: (exchange) => changed(exchange, change),
    }
  })
  return [list, page, ...changing]

  async function changed(
    exchange: Exchange,
    change: (record: ElectionRecord, exchange: Exchange) => Promise<ElectionRecord>,
  ): Promise<Answer> {
    const cluster = exchange.params['cluster']!
    const params = { tenant: exchange.tenant, cluster: clusterToken(cluster) }
    const next = (before: ElectionRecord | undefined) => {
      if (before !== undefined) return change(before, exchange)
      const text = `no replica of cluster "${cluster.slice(0, 200)}" is elected`
      throw new RefusedError('err-carillon-not-found', text, { status: 404 })
    }
    try {
      const election = await updateRecord({ ...(await opened()), record: electionRecord, params, change: next })
      return jsonAnswer({ election })
    } catch (cause) {
      if (!(cause instanceof ConflictError)) throw cause
      const text = 'the election keeps changing, try again'
      throw new UnavailableError('err-carillon-election-unavailable', text, { cause })
    }
  }

  async function opened() {
    const { log, metrics } = deps
    return { bucket: await bus.bucket(ELECTIONS_BUCKET), clock, log, metrics }
  }

  /** A name that nobody has heard would leave the cluster without samples until another takes over. */
  async function switched(record: ElectionRecord, exchange: Exchange): Promise<ElectionRecord> {
    const asked = new URLSearchParams(exchange.search)
    const replica = asked.get('replica') ?? ''
    if (replica === '') throw new RefusedError('err-carillon-bad-request', 'switch wants ?replica=NAME')
    const heard = await heardBy(exchange, exchange.tenant)
    const isKnown = heard.some(
      (each) => each.cluster === record.cluster && each.replicas.some((one) => one.replica === replica),
    )
    if (!isKnown && asked.get('force') !== 'true') {
      const text = `no distributor has heard of replica "${replica.slice(0, 200)}"; force=true elects it all the same`
      throw new RefusedError('err-carillon-unknown-replica', text)
    }
    return switchedTo(record, replica, clock.now())
  }

  async function rows(exchange: Exchange, tenant: string | undefined): Promise<ElectionRow[]> {
    const [records, heard] = await Promise.all([recordsOf(tenant), heardBy(exchange, tenant)])
    return records
      .flatMap(({ kind, params, value }) => (kind === 'value' ? [rowOf(params.tenant, value!, heard)] : []))
      .sort((a, b) => (`${a.tenant} ${a.cluster}` < `${b.tenant} ${b.cluster}` ? -1 : 1))
  }

  /** What stands in the bucket now. */
  async function recordsOf(tenant: string | undefined) {
    const timeoutMs = config.membersTimeoutMs
    try {
      const fixed = tenant === undefined ? {} : { tenant }
      return await readRecords({ ...(await opened()), timeoutMs }, electionRecord, fixed)
    } catch (cause) {
      if (!(cause instanceof UnavailableError)) throw cause
      const text = 'the elections cannot be read at the moment'
      throw new UnavailableError('err-carillon-election-unavailable', text, { cause })
    }
  }

  /** Distributors that do not answer in time are left out: the elections themselves stand in the bucket. */
  async function heardBy({ requestId, signal }: Exchange, tenant: string | undefined) {
    const options = { timeoutMs: config.membersTimeoutMs, requestId, signal }
    const request = tenant === undefined ? {} : { tenant }
    const { answers } = await askMembers(bus, membership.live('distributor'), electionNews, request, options)
    return answers.flatMap(({ reply }) => reply.elections)
  }
}

function rowOf(tenant: string, record: ElectionRecord, heard: ElectionNewsReply['elections']): ElectionRow {
  const byName = new Map<string, { replica: string; lastHeardMs: number; dropped: number }>()
  for (const election of heard) {
    if (election.tenant !== tenant || election.cluster !== record.cluster) continue
    for (const { replica, silentMs, dropped } of election.replicas) {
      const known = byName.get(replica)
      byName.set(replica, {
        replica,
        lastHeardMs: Math.min(silentMs, known?.lastHeardMs ?? silentMs),
        dropped: dropped + (known?.dropped ?? 0),
      })
    }
  }
  const replicas = [...byName.values()].sort((a, b) => (a.replica < b.replica ? -1 : 1))
  const dropped = replicas.reduce((sum, replica) => sum + replica.dropped, 0)
  const lastHeardMs = byName.get(record.replica)?.lastHeardMs ?? null
  return { ...record, tenant, frozen: record.frozen ?? false, lastHeardMs, dropped, replicas }
}

function bodyOf(elections: readonly ElectionRow[]): string {
  const head = ['tenant', 'cluster', 'elected', 'since', 'last heard', 'takeovers', 'frozen', 'dropped', 'all replicas']
  const body = elections.map((row) => [
    ...[row.tenant, row.cluster, row.replica, new Date(row.electedAtMs).toISOString()],
    row.lastHeardMs === null ? 'not yet' : ago(row.lastHeardMs),
    ...[String(row.takeovers), row.frozen ? 'yes' : 'no', String(row.dropped)],
    row.replicas.map((each) => `${each.replica}: heard ${ago(each.lastHeardMs)}, ${each.dropped} dropped`).join('; '),
  ])
  return `<h1>HA elections</h1>
<p>Of the replicas of a cluster the elected one is stored. Change one by
<code>POST /api/v1/ha/elections/{cluster}/switch?replica=NAME</code>, <code>…/freeze</code> or <code>…/unfreeze</code>.</p>
${htmlTable(head, body)}`
}

const ago = (ms: number): string => `${(ms / 1000).toFixed(1)} s ago`
