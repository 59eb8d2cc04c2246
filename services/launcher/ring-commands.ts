// `carillon ring`, `mark`, `flush` and `partitions add`: what a person asks of a running system's ring, from anywhere on its NATS.
import { sleep, systemClock } from '../../shared/base/clock.ts'
import { RefusedError, textOf, UnavailableError } from '../../shared/base/errors.ts'
import { ask } from '../../shared/bus/ask.ts'
import type { Question } from '../../shared/bus/contract.ts'
import type { Bus } from '../../shared/bus/port.ts'
import type { CommonConfig } from '../../shared/config/common.ts'
import type { FlushRequest } from '../../shared/contracts/flush.ts'
import { type PartitionsRecord, type RingReply, ring } from '../../shared/contracts/member.ts'
import { askMembers } from '../../shared/membership/ask-members.ts'
import { addPartitions, readPartitions } from '../../shared/membership/bootstrap.ts'
import { type FlushOutcome, flushMembers } from '../../shared/membership/flush-members.ts'
import { createLog } from '../../shared/telemetry/log.ts'
import { connect } from './connect.ts'
import { table } from './printed.ts'
import { SetupError } from './setup-error.ts'

const CONNECT_MS_MAX = 10_000
const POLL_MS = 250

/** The ring as some member sees it. */
export function askRing(common: CommonConfig): Promise<RingReply> {
  return withBus(common, 'ring', async (bus) => {
    try {
      return await ask(bus, ring, {}, {}, {})
    } catch (error) {
      const text = `no member answers on ${common.nats} (${textOf(error)}): does anything run there, and under this --prefix?`
      throw new SetupError(1, text, { cause: error })
    }
  })
}

/** Asks each compactor that is well; all of them must answer. */
export function eachCompactor<Req, Reply>(
  common: CommonConfig,
  command: string,
  contract: Question<'id', Req, Reply>,
  request: Req,
): Promise<readonly Reply[]> {
  return withBus(common, command, async (bus) => {
    const { members } = await ask(bus, ring, {}, {}, {}).catch((error: unknown) => {
      throw new SetupError(1, `no member answers on ${common.nats} (${textOf(error)})`, { cause: error })
    })
    const compactors = members.filter(({ role, isHealthy }) => role === 'compactor' && isHealthy)
    const { answers, failures } = await askMembers(bus, compactors, contract, request)
    if (failures[0] !== undefined) throw failures[0].error
    return answers.map(({ reply }) => reply)
  })
}

/** Gives an order to whichever compactor takes it. */
export function anyCompactor<T>(common: CommonConfig, command: string, order: (bus: Bus) => Promise<T>): Promise<T> {
  return withBus(common, command, (bus) =>
    order(bus).catch((error: unknown) => {
      throw new SetupError(1, `no compactor took it (${textOf(error)})`, { cause: error })
    }),
  )
}

export const NO_COMPACTOR = 'no compactor runs here: carillon compactor --nats URL starts one\n'

/** `--tenant`, empty: all. */
export const tenantOf = ({ tenant }: { readonly tenant: string }): { tenant?: string } =>
  tenant === '' ? {} : { tenant }

/** Opens the next segments now; with `flush` brings the ones before into blocks, too. */
export function askFlush(common: CommonConfig, asked: FlushRequest): Promise<FlushOutcome> {
  return withBus(common, asked.kind, async (bus) => {
    const { members } = await ask(bus, ring, {}, {}, {})
    const ids = members.filter(({ role, isHealthy }) => role === 'ingester' && isHealthy).map(({ id }) => id)
    return flushMembers(bus, ids, asked)
  })
}

export function flushText({ partitions, failures, isDone }: FlushOutcome): string {
  const lines = partitions.map(
    ({ partition, leader, segment, flushed, isDone }) =>
      `partition ${partition}  ${leader}  segment ${segment}  flushed ${flushed}  ${isDone ? 'done' : 'not yet'}`,
  )
  const rest = isDone
    ? []
    : ['it goes on by itself: segments are at least --segment-min long; ask again, or with a longer --wait']
  return `${[...lines, ...failures.map((failure) => `no answer from ${failure}`), ...rest].join('\n')}\n`
}

/** Adds partitions to a running system and waits until they take series. */
export function addOnline(common: CommonConfig, options: { more: number; waitMs: number }): Promise<PartitionsRecord> {
  return withBus(common, 'partitions', async (bus) => {
    let record = await addPartitions(bus, options.more)
    const untilMs = systemClock.monotonic() + options.waitMs
    while (record.writable < record.count) {
      if (systemClock.monotonic() >= untilMs) {
        const text = `the logs are there and are read, but after ${options.waitMs} ms only ${record.writable} of ${record.count} partitions take series: \`carillon ring\` shows which member has not confirmed or not caught up. They open by themselves`
        throw new SetupError(1, text)
      }
      await sleep(systemClock, POLL_MS)
      record = await readPartitions(bus)
    }
    return record
  })
}

/** Runs `work` on a connection of its own. Throws SetupError when there is no way. */
export async function withBus<T>(common: CommonConfig, command: string, work: (bus: Bus) => Promise<T>): Promise<T> {
  if (common.nats === '')
    throw new SetupError(2, `${command} wants --nats URL (CARILLON_NATS), or --data with the folder of a running start`)
  const log = createLog({ role: command, id: command, level: common.logLevel })
  const late = new SetupError(1, `no connection to ${common.nats} within ${CONNECT_MS_MAX} ms`)
  const giveUp = new AbortController()
  const timer = systemClock.after(CONNECT_MS_MAX, () => giveUp.abort(late))
  try {
    const bus = await connect({ reach: common, prefix: common.prefix, name: command, log, signal: giveUp.signal })
    timer.cancel()
    try {
      return await work(bus)
    } finally {
      await bus.close()
    }
  } catch (error) {
    if (error instanceof RefusedError) throw new SetupError(2, error.message, { cause: error })
    if (error instanceof UnavailableError) throw new SetupError(1, `${error.message}${hintOf(error)}`, { cause: error })
    throw error
  } finally {
    timer.cancel()
  }
}

function hintOf({ message }: UnavailableError): string {
  if (!message.includes('10047')) return ''
  return '; each log reserves as much of the disk as the first one (--log-bytes-max at setup): is there room for the new ones?'
}

/** Two tables for people. */
export function ringText(reply: RingReply): string {
  const { members, partitions, partitionCount, writableCount, replicationFactor } = reply
  const head = `${partitionCount} partitions (${writableCount} take series), ${replicationFactor} owners each, as ${reply.asSeenBy} sees it${reply.isConfirmed ? '' : ' (not confirmed)'}`
  const memberRows = members.map(({ id, role, zone, state, isHealthy, heartbeatAgeMs, holdsCount, version }) => {
    const holds = role === 'ingester' ? String(holdsCount) : ''
    return [
      id,
      role,
      zone,
      state,
      isHealthy ? 'healthy' : 'silent',
      `${(heartbeatAgeMs / 1000).toFixed(1)}s`,
      holds,
      version,
    ]
  })
  const partitionRows = partitions.map(({ partition, state, isWritable, owners, alsoHeldBy }) => {
    const named = owners.map(({ id, hasCaughtUp }) => (hasCaughtUp ? id : `${id} (replaying)`))
    return [String(partition), state, isWritable ? '' : 'read only', named.join(', '), alsoHeldBy.join(', ')]
  })
  return [
    head,
    '',
    ...table(['MEMBER', 'ROLE', 'ZONE', 'STATE', 'HEALTH', 'HEARD', 'HOLDS', 'VERSION'], memberRows),
    '',
    ...table(['PARTITION', 'STATE', '', 'OWNERS', 'ALSO HELD BY'], partitionRows),
    '',
  ].join('\n')
}
