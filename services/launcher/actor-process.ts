// One actor in a process of its own: connects, joins the ring, runs, and stops when told.
//
// Invariants
//   PROCESS-1  SIGTERM and SIGINT drain, then the process ends. SIGHUP has it read again what may change while it runs
//       (hang-up.ts).
//   PROCESS-2  When whoever started us dies (the channel closes), the process ends: nothing here is worth keeping.
//   PROCESS-3  A bug (assertion, uncaught exception, unhandled rejection) is logged and ends the process with exit code 70.
import fs from 'node:fs'
import path from 'node:path'
import { AssertionError, assert } from '../../shared/base/assert.ts'
import { sleep, systemClock } from '../../shared/base/clock.ts'
import { RefusedError } from '../../shared/base/errors.ts'
import { hex, systemRandom } from '../../shared/base/random.ts'
import { runActor } from '../../shared/bus/run-actor.ts'
import type { CommonConfig } from '../../shared/config/common.ts'
import type { Role } from '../../shared/contracts/member.ts'
import { claimId } from '../../shared/membership/claim.ts'
import type { ServiceDeps } from '../../shared/membership/deps.ts'
import { asMember, type MemberActor } from '../../shared/membership/member-actor.ts'
import { joinRing, type Membership } from '../../shared/membership/membership.ts'
import { createLog, type Log } from '../../shared/telemetry/log.ts'
import { createMetrics } from '../../shared/telemetry/metrics.ts'
import { actorMetrics } from './actor-metrics.ts'
import { connect } from './connect.ts'
import { onHangUp } from './hang-up.ts'
import { openObjects } from './open-objects.ts'
import { sayAlive } from './pulse.ts'
import { SetupError } from './setup-error.ts'

/** PROCESS-3 */
export const exitCodeOfBug = 70
/** How often it is looked whether an actor can work: often at its start, then as often as a load balancer would. */
const ABLE_STEP_MS = 50
const ABLE_STEP_LATER_MS = 1_000
const WAITING_TOLD_MS = 10_000
const LACKS_TOLD_MAX = 5

/** An actor that listens says where, once it has started. */
export type ServiceActor = MemberActor & { address?(): string }

export interface ActorProcessOptions {
  readonly role: Role
  readonly common: CommonConfig
  readonly make: (deps: ServiceDeps) => ServiceActor
}

/** Resolves with the exit code when the actor has stopped. */
export async function runActorProcess({ role, common, make }: ActorProcessOptions): Promise<number> {
  const id = common.id === '' ? `${role}-${hex(systemRandom.bytes(4))}` : common.id
  if (common.nats === '')
    throw new SetupError(2, `${role} wants --nats URL (CARILLON_NATS): the nats-server that all actors share`)
  const log = createLog({
    ...{ role, id, level: common.logLevel, format: common.logFormat },
    onLost: () => void process.kill(process.pid, 'SIGTERM'),
  })
  const stopping = new AbortController()
  endOnBugs(log)
  let reload: () => void = () => undefined
  listenForStop(stopping, log, () => reload())
  process.title = `carillon ${role} ${id}`
  if (process.send !== undefined) sayAlive(systemClock, (message, onSent) => process.send?.(message, onSent))

  const incarnation = hex(systemRandom.bytes(8))
  const failed = Promise.withResolvers<never>()
  failed.promise.catch(() => {}) // whoever waits for it hears it
  const metrics = createMetrics()
  metrics.collectProcess()
  try {
    const bus = await connect({
      reach: common,
      prefix: common.prefix,
      name: id,
      log,
      signal: stopping.signal,
    })
    const objects = await openObjects({ common, name: id, log, signal: stopping.signal })
    const identity = await claimId({
      ...{ bus, clock: systemClock, random: systemRandom, log },
      self: { id, role, incarnation },
      unhealthyAfterMs: common.unhealthyAfterMs,
      signal: stopping.signal,
    })
    const membership = await joinRing({
      bus,
      clock: systemClock,
      self: { id, role, zone: common.zone, incarnation, version: projectVersion(), capacity: 0 },
      options: common,
      onError: (text) => log.warn({}, text),
      onTaken: (error) => failed.reject(error),
      log,
      metrics,
    })
    const deps = { bus, objects, clock: systemClock, random: systemRandom, log, metrics, id, incarnation, membership }
    const actor = make(deps)
    const running = runActor(asMember(actor, { ...deps, role }), {
      ...deps,
      metrics: actorMetrics(metrics),
      onFailed: (error) => void failed.reject(error),
    })
    await Promise.race([running.ready, failed.promise])
    reload = () => actor.reload?.()
    tell('started', { role, id, address: actor.address?.() }, log)
    await Promise.race([becomeAble(actor, { membership, log, signal: stopping.signal }), failed.promise])
    if (!stopping.signal.aborted) tell('ready', { role, id, address: actor.address?.() }, log)
    await Promise.race([aborted(stopping.signal), failed.promise])
    await membership.setState('LEAVING').catch((error: unknown) => log.warn({ error }, 'telling that this one leaves'))
    await actor.handOver?.()
    await running.stop()
    await membership.leave().catch((error: unknown) => log.warn({ error }, 'leaving the ring'))
    await identity.stop()
    await objects.close()
    await bus.close()
    return 0
  } catch (error) {
    if (stopping.signal.aborted && error === stopping.signal.reason) return 0
    log.error({ error }, 'this actor cannot go on')
    if (error instanceof RefusedError) return 2
    return error instanceof AssertionError ? exitCodeOfBug : 1
  }
}

/** ACTIVE from the first moment on at which nothing keeps it from its work. Until then it says now and then what does. */
async function becomeAble(
  { lacks }: Pick<MemberActor, 'lacks'>,
  { membership, log, signal }: { membership: Membership; log: Log; signal: AbortSignal },
): Promise<void> {
  let toldAtMs = systemClock.monotonic()
  let stepMs = ABLE_STEP_MS
  for (;;) {
    const lacking = (await lacks?.()) ?? []
    if (lacking.length === 0 || signal.aborted) break
    if (systemClock.monotonic() - toldAtMs >= WAITING_TOLD_MS) {
      toldAtMs = systemClock.monotonic()
      stepMs = ABLE_STEP_LATER_MS
      log.info({ lacks: lacking.slice(0, LACKS_TOLD_MAX) }, 'not ready yet')
      process.send?.({ type: 'waiting', lacks: lacking.slice(0, LACKS_TOLD_MAX) })
    }
    await sleep(systemClock, stepMs, signal).catch(() => undefined) // told to stop: seen above
  }
  if (!signal.aborted)
    await membership
      .setState('ACTIVE')
      .catch((error: unknown) => log.warn({ error }, 'telling that this one is active')) // the next heartbeat tells it
}

/** Tells the launcher, if there is one, and the log: `started`, it takes questions; `ready`, it can do its work. */
function tell(
  type: 'started' | 'ready',
  facts: { role: Role; id: string; address: string | undefined },
  log: Log,
): void {
  log[type === 'ready' ? 'info' : 'debug']({ address: facts.address, pid: process.pid }, type)
  process.send?.({ type, ...facts })
}

function listenForStop(stopping: AbortController, log: Log, reload: () => void): void {
  const stop = (signal: string) => {
    if (stopping.signal.aborted) return
    log.info({ signal }, 'stopping')
    stopping.abort(new Error('told to stop'))
  }
  for (const signal of ['SIGTERM', 'SIGINT'] as const) process.on(signal, stop) // PROCESS-1
  onHangUp({ stop: () => stop('SIGHUP'), reload: () => reloadSafely(reload, log) })
  if (process.channel === undefined) return
  process.on('disconnect', () => {
    log.warn({}, 'the process that started this one is gone: ending')
    process.exit(1) // PROCESS-2
  })
}

function reloadSafely(reload: () => void, log: Log): void {
  try {
    reload()
    log.info({}, 'read again what may change')
  } catch (error) {
    log.error({ error }, 'what was read again is not sound: what held before holds on')
  }
}

function endOnBugs(log: Log): void {
  for (const event of ['uncaughtException', 'unhandledRejection'] as const) {
    process.on(event, (error: unknown) => {
      log.error({ error, event }, 'a bug ends this process')
      process.exit(exitCodeOfBug)
    })
  }
}

function aborted(signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    if (signal.aborted) resolve()
    else signal.addEventListener('abort', () => resolve(), { once: true })
  })
}

export function projectVersion(): string {
  const text = fs.readFileSync(path.resolve(import.meta.dirname, '../../package.json'), 'utf8')
  const { version } = JSON.parse(text) as { version?: unknown }
  assert(typeof version === 'string', 'package.json has a version')
  return version
}
