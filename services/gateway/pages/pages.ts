// Pages about the system itself: readiness, health, metrics of all members, and the status pages.
import type { Clock } from '../../../shared/base/clock.ts'
import type { AskOptions } from '../../../shared/bus/ask.ts'
import type { Question } from '../../../shared/bus/contract.ts'
import type { Bus } from '../../../shared/bus/port.ts'
import {
  metrics as metricsOf,
  type PartitionStatus,
  type StatusReply,
  status as statusOf,
} from '../../../shared/contracts/member.ts'
import {
  askMembers,
  type MemberAnswer,
  type MemberAnswers,
  unansweredIn,
} from '../../../shared/membership/ask-members.ts'
import type { Member, Membership } from '../../../shared/membership/membership.ts'
import type { Log } from '../../../shared/telemetry/log.ts'
import { type ExpositionPage, mergeExpositions } from '../../../shared/wire/exposition.ts'
import type { GatewayConfig } from '../config.ts'
import { type DurabilityGate, SURVIVES } from '../durability.ts'
import { type Answer, type Exchange, jsonAnswer, type Route, textAnswer } from '../http/exchange.ts'
import { lacksText, type Readiness, type Side } from './readiness.ts'

/** How long an answer of /metrics is that of others as well. */
const SCRAPE_SHARED_MS = 1_000
const EXPOSITION_TYPE = 'text/plain; version=0.0.4; charset=utf-8'

export interface PageDeps {
  readonly bus: Bus
  readonly clock: Clock
  readonly log: Log
  readonly membership: Membership
  readonly config: GatewayConfig
  readonly durability: DurabilityGate
  readonly readiness: Readiness
}

export function pageRoutes(deps: PageDeps): readonly Route[] {
  const { bus, clock, log, membership, config, durability, readiness } = deps
  let scrape: { readonly answer: Promise<Answer>; untilMs: number } | undefined
  const page = (name: string, path: string, access: Route['access'], answer: Route['answer']): Route => {
    return { name, methods: ['GET'], path, access, errors: path.startsWith('/api') ? 'json' : 'text', answer }
  }
  return [
    page('ready', '/-/ready', 'open', () => ready()),
    page('ready', '/ready', 'open', () => ready()),
    page('ready', '/-/ready/writes', 'open', () => ready('writes')),
    page('ready', '/-/ready/reads', 'open', () => ready('reads')),
    page('healthy', '/-/healthy', 'open', () => textAnswer(200, 'Carillon is Healthy.\n')),
    page('metrics', '/metrics', 'metrics', sharedMetrics),
    page('durability', '/api/v1/status/durability', 'admin', durabilityPage),
    page('partitions', '/api/v1/status/partitions', 'admin', partitionsPage),
    page('members', '/api/v1/status/members', 'admin', membersPage),
  ]

  async function ready(of?: Side): Promise<Answer> {
    const lacks = (await readiness.lacks()).filter(({ side }) => of === undefined || side === undefined || side === of)
    if (lacks.length === 0) return textAnswer(200, `Carillon is Ready.\n${damageText(membership)}`)
    const answer = textAnswer(503, `Carillon is not ready:\n${lacksText(lacks)}`)
    return { ...answer, headers: { ...answer.headers, 'X-Carillon-Error-Id': 'err-carillon-not-ready' } }
  }

  /** What each member answers in time. */
  async function askEach<Reply>(
    members: readonly Member[],
    contract: Question<'id', object, Reply>,
    options: AskOptions,
  ): Promise<MemberAnswers<Member, Reply>> {
    const found = await askMembers(bus, members, contract, {}, options)
    for (const { member, reason } of found.failures) {
      log.debug({ member: member.id, reason }, 'a member did not answer')
    }
    return found
  }

  /** All members are asked for it: whoever comes while they are, or within a second, has the same answer. */
  async function sharedMetrics(): Promise<Answer> {
    if (scrape === undefined || clock.monotonic() >= scrape.untilMs) {
      const begun = { answer: allMetrics(), untilMs: Number.POSITIVE_INFINITY }
      scrape = begun
      const settle = () => {
        begun.untilMs = clock.monotonic() + SCRAPE_SHARED_MS
      }
      begun.answer.then(settle, settle)
    }
    return await scrape.answer
  }

  async function allMetrics(): Promise<Answer> {
    const options = { timeoutMs: config.membersTimeoutMs }
    const members = membership.members()
    const { answers } = await askEach(members, metricsOf, options)
    const answered = new Set(answers.map(({ member }) => member))
    const up = members.map((member) => {
      const labels = `role="${escaped(member.role)}",id="${escaped(member.id)}"`
      return `carillon_member_up{${labels}} ${answered.has(member) ? 1 : 0}\n`
    })
    const upText =
      '# HELP carillon_member_up 1 for members of the ring that answered this scrape in time, 0 for those that did not.\n' +
      `# TYPE carillon_member_up gauge\n${up.join('')}`
    const expositions: ExpositionPage[] = answers.map(({ member: { id, role }, reply }) => {
      return { text: reply.text, labels: { role, id } }
    })
    const body = mergeExpositions([{ text: upText, labels: {} }, ...expositions])
    return { status: 200, headers: { 'Content-Type': EXPOSITION_TYPE }, body }
  }

  function durabilityPage(): Answer {
    const facts = durability.facts()
    const durabilityClass = facts?.durability ?? 'unknown'
    return jsonAnswer({
      durability: durabilityClass,
      reason: facts?.durabilityReason ?? 'the server has not answered',
      survives: SURVIVES[durabilityClass],
      requirePowerSafe: config.requirePowerSafe,
      acceptsWrites: !config.requirePowerSafe || durabilityClass === 'power-loss-safe',
      isConnected: bus.isConnected(),
      server: facts === undefined ? null : { version: facts.version, url: withoutPassword(facts.url) },
    })
  }

  async function partitionsPage({ requestId, signal }: Exchange): Promise<Answer> {
    const options = { timeoutMs: config.membersTimeoutMs, requestId, signal }
    const ingesters = membership.members().filter(({ role }) => role === 'ingester')
    const found = await askEach(ingesters, statusOf, options)
    return jsonAnswer({
      partitionCount: membership.partitionCount(),
      replicationFactor: membership.replicationFactor(),
      unanswered: unansweredIn(found),
      partitions: byPartition(membership, found.answers),
    })
  }

  function membersPage(): Answer {
    return jsonAnswer({ asSeenBy: membership.id, members: membership.members() })
  }
}

interface OwnerStatus extends PartitionStatus {
  readonly id: string
  readonly zone: string
}

function byPartition(membership: Membership, answers: readonly MemberAnswer<Member, StatusReply>[]): object[] {
  const rows = Array.from({ length: membership.partitionCount() }, (_, partition) => ({
    partition,
    assignedTo: membership.owners(partition),
    owners: [] as OwnerStatus[],
  }))
  for (const { member, reply } of answers) {
    for (const status of reply.partitions) {
      rows[status.partition]?.owners.push({ id: member.id, zone: member.zone, ...status })
    }
  }
  return rows.map((row) => ({ ...row, digestsAgree: digestsAgree(row.owners) }))
}

/** null while no two owners have applied equally far, so that nothing can be compared. */
function digestsAgree(owners: readonly OwnerStatus[]): boolean | null {
  let hasPair = false
  for (const [index, owner] of owners.entries()) {
    for (const other of owners.slice(index + 1)) {
      if (owner.incarnation !== other.incarnation || owner.appliedSeq !== other.appliedSeq) continue
      hasPair = true
      const theirs = new Map(other.segments.map((segment, at) => [segment, other.digests[at]]))
      const differs = owner.segments.some(
        (segment, at) => theirs.has(segment) && theirs.get(segment) !== owner.digests[at],
      )
      if (differs) return false
    }
  }
  return hasPair ? true : null
}

function escaped(value: string): string {
  return value.replace(/[\\"\n]/g, (char) => (char === '\n' ? '\\n' : `\\${char}`))
}

/** nats://user:password@host → nats://host */
function withoutPassword(url: string): string {
  return url.replace(/\/\/[^@/]*@/, '//')
}

/** Damage does not make the rest unready, but whoever looks is told. */
function damageText(membership: Membership): string {
  const damaged = membership.members().filter(({ damageCount }) => damageCount > 0)
  return damaged
    .map(({ id, damageCount }) => `log damage: ${id} names ${damageCount}, see /api/v1/status/partitions\n`)
    .join('')
}
