// The actors of a history: the very ones of services/, each on a connection of its own. They are started, paused, cut off, killed, and come back.
import { compactor } from '../../services/compactor/compactor.ts'
import { compactorSettings } from '../../services/compactor/config.ts'
import { inlineMerger } from '../../services/compactor/worker/inline-worker.ts'
import { distributorSettings } from '../../services/distributor/config.ts'
import { distributor } from '../../services/distributor/distributor.ts'
import { ingesterSettings } from '../../services/ingester/config.ts'
import { ingester } from '../../services/ingester/ingester.ts'
import type { Owner } from '../../services/ingester/log/owner.ts'
import { querierSettings } from '../../services/querier/config.ts'
import { querier } from '../../services/querier/querier.ts'
import type { Clock } from '../../shared/base/clock.ts'
import { UnavailableError } from '../../shared/base/errors.ts'
import type { Random } from '../../shared/base/random.ts'
import type { RunningActor } from '../../shared/bus/actor.ts'
import { runActor } from '../../shared/bus/run-actor.ts'
import { type ConfigOf, defaultsOf } from '../../shared/config/settings.ts'
import type { Role } from '../../shared/contracts/member.ts'
import type { ServiceDeps } from '../../shared/membership/deps.ts'
import { asMember, type MemberActor } from '../../shared/membership/member-actor.ts'
import { joinRing, type Membership } from '../../shared/membership/membership.ts'
import type { ObjectStore } from '../../shared/objects/port.ts'
import { type Log, silentLog } from '../../shared/telemetry/log.ts'
import { createMetrics, type Metrics } from '../../shared/telemetry/metrics.ts'
import { pairTimes } from './pair.ts'
import type { Scene } from './scene.ts'

export type Part = Extract<Role, 'distributor' | 'ingester' | 'querier' | 'compactor'>

interface Running {
  readonly id: string
  readonly role: Part
  readonly actor: RunningActor
  readonly owners: () => readonly Owner[]
  readonly membership: Membership
  readonly handOver: (() => Promise<void>) | undefined
  isPaused: boolean
  isDown: boolean
}

/** Something that an ingester had. */
interface Seen {
  readonly by: Running
  readonly what: string
  readonly ref: WeakRef<object>
}

/** How far a wall clock may be off. */
const CLOCK_MS_MAX = 300_000
/** That of a compactor: what five minutes are to the days that it measures; or more than a window lasts. */
const COMPACTOR_CLOCK_MS_MAX = 50
const WINDOW_CLOCK_MS_MAX = 1_500
const JUMP_CHANCE = 0.02
const HEARTBEAT_MS = 300
const SILENT_MS = 900
const NEVER_MS = 600_000
/** What is on its way arrives meanwhile. */
const REST_MS = 300
const LOG_LENGTH_MAX = 300
const LEAVE_MS_MAX = 30_000
const START_MS_MAX = 40_000
const START_TRIES_MAX = 40
const RETRY_MS = 100

export class Cast {
  readonly running = new Map<string, Running>()
  readonly metrics: { readonly role: Part; readonly metrics: Metrics }[] = []
  /** Owners, states and heads that were seen, of whom, and what they are. */
  private readonly seen: Seen[] = []
  private readonly isSeen = new WeakSet<object>()
  private readonly kept: object[] = []
  private readonly scene: Scene
  private readonly objects: ObjectStore
  private readonly clockRandom: Random
  private readonly known = new Map<string, Set<Owner>>()
  private incarnationCount = 0

  constructor(scene: Scene, objects: ObjectStore) {
    this.scene = scene
    this.objects = objects
    this.clockRandom = scene.plan.random('clocks')
  }

  all(role?: Part): Running[] {
    return [...this.running.values()].filter((each) => role === undefined || each.role === role)
  }

  /** Of ingesters that live. */
  owners(): { readonly id: string; readonly owner: Owner }[] {
    return this.all('ingester').flatMap(({ id, isDown, owners }) =>
      isDown ? [] : owners().map((owner) => ({ id, owner })),
    )
  }

  /** Resolves when it works, and tries as often as a supervisor would. */
  async start(id: string, role: Part): Promise<void> {
    for (let attempt = 1; ; attempt++) {
      try {
        return await this.startOnce(id, role)
      } catch (error) {
        const begun = this.running.get(id)
        if (begun !== undefined) begun.isDown = true
        this.known.delete(id)
        if (this.scene.hub.has(id)) this.scene.hub.crash(id)
        this.scene.trace(`${id} does not start: ${String(error)}`)
        if (attempt === START_TRIES_MAX) return this.scene.fault(`${id} does not start: ${String(error)}`)
        await this.scene.sleep(RETRY_MS)
      }
    }
  }

  private async startOnce(id: string, role: Part): Promise<void> {
    const { hub, random, plan } = this.scene
    const bus = hub.connect(id)
    const clock = this.wallClock(bus.clock, role)
    const metrics = createMetrics()
    this.metrics.push({ role, metrics })
    const incarnation = `i${++this.incarnationCount}`
    const unhealthyAfterMs = plan.has('ring') || plan.has('scaling') ? SILENT_MS : NEVER_MS
    const membership = await joinRing({
      ...{ bus, clock, onError: () => {} },
      self: { id, role, zone: id, incarnation, version: 'sim', capacity: 0 },
      options: { heartbeatMs: HEARTBEAT_MS, unhealthyAfterMs, forgetAfterMs: 3_600_000 },
    })
    const log = this.logOf(id)
    const deps = { bus, objects: this.objects, clock, random, log, metrics, id, incarnation, membership }
    const made = this.make(role, deps)
    const actor = runActor(asMember(made, { ...deps, role }), {
      ...{ bus, clock, random, log },
      onFailed: (error) => {
        if (!(error instanceof UnavailableError)) this.scene.fault(`${id} failed: ${textOf(error)}`)
      },
    })
    const owners = 'owners' in made ? (made as ReturnType<typeof ingester>).owners : () => []
    const { handOver } = made
    const running = { id, role, actor, owners, membership, handOver, isPaused: false, isDown: false }
    this.running.set(id, running)
    await this.untilReady(running)
  }

  /** Or killed: nothing of it is ever heard again, and it is started anew. */
  private async untilReady(running: Running): Promise<void> {
    let outcome: { readonly error?: unknown } | undefined
    running.actor.ready.then(
      () => {
        outcome = {}
      },
      (error: unknown) => {
        outcome = { error }
      },
    )
    await this.scene.until(() => outcome !== undefined || running.isDown, START_MS_MAX)
    if (running.isDown) return
    if (outcome === undefined)
      throw new UnavailableError('bus-silent', `${running.id} did not start within ${START_MS_MAX} ms`)
    if (outcome.error !== undefined) throw outcome.error
  }

  /** Warnings and errors, where somebody follows the history. */
  private logOf(id: string): Log {
    if (this.scene.options.onEvent === undefined) return silentLog
    const told = (level: string) => (facts: object, text: string) => {
      this.scene.trace(`${id} ${level}: ${text} ${JSON.stringify(facts, errorsAsText).slice(0, LOG_LENGTH_MAX)}`)
    }
    return { ...silentLog, warn: told('warns'), error: told('error') }
  }

  private make(role: Part, deps: ServiceDeps): MemberActor {
    // Segments are short here: hardly a tenant would be heard in each.
    const without = new Set([...this.scene.without, 'silence'])
    switch (role) {
      case 'ingester':
        return ingester({ ...deps, config: ingesterConfig(), without })
      case 'distributor':
        return distributor({ ...deps, config: distributorConfig(this.scene), without })
      case 'querier':
        return querier({ ...deps, config: querierConfig() })
      case 'compactor':
        return compactor({ ...deps, config: compactorConfig(this.scene), merger: inlineMerger })
    }
  }

  private wallClock(clock: Clock, role: Part): Clock {
    const { plan, options } = this.scene
    const isSteady = role === 'compactor' && plan.has('deletions') && !plan.has('deletion-clocks')
    const ofCompactors = plan.has('deletion-clocks') ? WINDOW_CLOCK_MS_MAX : COMPACTOR_CLOCK_MS_MAX
    const mostMs = role === 'compactor' ? ofCompactors : CLOCK_MS_MAX
    const draw = (random = this.clockRandom) => Math.floor((2 * random.next() - 1) * mostMs)
    let offMs = draw() // drawn in any case: right clocks change nothing else
    const isWrong = plan.has('clocks') && options.hasRightClocks !== true && !isSteady
    if (!isWrong) offMs = 0
    const jumps = plan.random(`jumps ${this.incarnationCount}`)
    return {
      now: () => {
        if (isWrong && plan.has('clock-jumps') && jumps.next() < JUMP_CHANCE) offMs = draw(jumps)
        return Math.floor(clock.now()) + offMs // whole, as those of machines are
      },
      monotonic: () => clock.monotonic(),
      uptime: () => clock.uptime(),
      after: (delayMs, fn) => clock.after(delayMs, fn),
      turn: (fn) => clock.turn(fn),
    }
  }

  // ---- what happens to them ----

  pause(id: string, forMs: number): void {
    const victim = this.running.get(id)!
    this.scene.trace(`${id} stands still for ${forMs} ms`)
    victim.isPaused = true
    this.scene.hub.pause(id)
    this.scene.clock.after(forMs, () => this.goOn(victim))
  }

  private goOn(victim: Running): void {
    if (victim.isDown || !victim.isPaused) return
    victim.isPaused = false
    this.scene.hub.resume(victim.id)
  }

  cut(id: string, forMs: number): void {
    const victim = this.running.get(id)!
    this.scene.trace(`${id} is cut off for ${forMs} ms`)
    this.scene.hub.disconnect(id)
    this.scene.clock.after(forMs, () => {
      if (!victim.isDown && this.running.get(id) === victim) this.scene.hub.reconnect(id)
    })
  }

  kill(id: string, forMs: number): void {
    const victim = this.running.get(id)!
    this.scene.trace(`${id} is killed, back in ${forMs} ms`)
    victim.isDown = true
    this.known.delete(id)
    this.scene.hub.crash(id)
    this.scene.clock.after(forMs, () => {
      this.start(id, victim.role).catch((error: unknown) => this.scene.fault(`restart of ${id}: ${String(error)}`))
    })
  }

  /** It leaves as an operator would have it leave: others take over first. One that dies meanwhile comes back and stays. */
  async leave(id: string): Promise<void> {
    const leaving = this.running.get(id)
    if (leaving === undefined || leaving.isDown) return
    this.scene.trace(`${id} leaves`)
    let hasLeft = false
    const parting = async () => {
      await leaving.membership.setState('LEAVING').catch(() => {})
      await leaving.handOver?.()
      await leaving.actor.stop()
      await leaving.membership.leave().catch(() => {})
      hasLeft = true
    }
    parting().catch((error: unknown) => this.scene.fault(`${id} cannot leave: ${textOf(error)}`))
    const isOver = await this.scene.until(() => hasLeft || leaving.isDown, LEAVE_MS_MAX)
    if (!isOver) return this.scene.fault(`${id} does not come to leave`)
    if (leaving.isDown) return
    this.scene.trace(`${id} has left`)
    this.running.delete(id)
    this.known.delete(id)
    this.scene.hub.crash(id)
  }

  /** All of a role stand still: with ingesters that do, what they hold and what blocks hold belongs to one moment. */
  async rest(role: Part): Promise<void> {
    for (const { id, isDown } of this.all(role)) if (!isDown) this.scene.hub.pause(id)
    await this.scene.sleep(REST_MS)
  }

  /** Notes what ingesters hold, and which owners were given away since it was last called. */
  look(): void {
    for (const by of this.all('ingester')) {
      const { id, isDown, owners } = by
      if (isDown) continue
      const now = new Set(owners())
      for (const owner of now)
        for (const [what, part] of partsOf(owner)) this.note({ by, what: `${id}'s ${what}` }, part)
      for (const owner of this.known.get(id) ?? []) {
        if (now.has(owner)) continue
        this.scene.count('released')
        this.scene.trace(`${id} gave partition ${owner.partition} away`)
      }
      this.known.set(id, now)
    }
  }

  private note(seen: { by: Running; what: string }, part: object): void {
    if (this.isSeen.has(part)) return
    this.isSeen.add(part)
    this.seen.push({ ...seen, ref: new WeakRef(part) })
    if (this.scene.without.has('memory')) this.kept.push(part)
  }

  /** What ingesters that live on have had and have no more. Forgets what is known, so that nothing here holds any. */
  given(): readonly Seen[] {
    this.known.clear()
    const held = new Set(this.owners().flatMap(({ owner }) => partsOf(owner).map(([, part]) => part)))
    return this.seen.filter(({ by, ref }) => {
      if (this.running.get(by.id) !== by || by.isDown) return false
      const part = ref.deref()
      return part === undefined || !held.has(part) // whether the collector has been here by itself changes no history
    })
  }
}

/** What an owner is made of that weighs something. */
function partsOf(owner: Owner): (readonly [string, object])[] {
  const { partition, state } = owner
  const heads = [...state.heads].map(([tenant, head]) => [`head of ${tenant} in partition ${partition}`, head] as const)
  return [[`owner of partition ${partition}`, owner], [`state of partition ${partition}`, state], ...heads]
}

function ingesterConfig(): ConfigOf<typeof ingesterSettings> {
  return defaultsOf(ingesterSettings, {
    ...{ segmentMinMs: 250, segmentMs: 400, endReadMs: 250, checkpointMs: 1_000, flushMs: 100, dropAfterMs: 300 },
    releaseAfterMs: 300,
  })
}

function distributorConfig({ plan }: Scene): ConfigOf<typeof distributorSettings> {
  return defaultsOf(distributorSettings, {
    ...{ lingerMs: 2, appendTimeoutMs: 300, pushTimeoutMs: 1_200, highWaterMs: 500, batchBytesMax: 4096 },
    ...{ startTimestamps: plan.has('kinds'), ...pairTimes },
  })
}

function querierConfig(): ConfigOf<typeof querierSettings> {
  return defaultsOf(querierSettings, {
    ...{ ownerWaitMs: 1_000, queryTimeoutMs: 2_000, hedgeAfterMs: 100, ownerTimeoutMs: 800 },
    ...{ readCacheBytesMax: 1 << 20 },
  })
}

/** What is measured by wall clocks is longer than they may be off, and than anybody stands still: as a day is. */
function compactorConfig({ plan }: Scene): ConfigOf<typeof compactorSettings> {
  const orphanGraceMs = plan.has('deletion-clocks') ? 3_500 + 2 * WINDOW_CLOCK_MS_MAX : 3_500
  return defaultsOf(compactorSettings, {
    ...{ compactEveryMs: 250, compactDelayMs: 0, leaseMs: 600, undoMs: 700, retiredDelayMs: 300 },
    ...{ orphanGraceMs, sweepEveryMs: 400, scrubEveryMs: 0, damagedRetryMs: 1_000 },
  })
}

function textOf(error: unknown): string {
  return error instanceof Error ? (error.stack ?? error.message).split('\n').slice(0, 4).join(' ') : String(error)
}

function errorsAsText(_key: string, value: unknown): unknown {
  return value instanceof Error ? value.message : value
}
