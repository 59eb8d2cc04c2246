// One simulated history: the very actors of services/ in one process, on the memory bus, under virtual time and one seed.
//
// Senders push samples and repeat what was not acknowledged; meanwhile messages are dropped, doubled, reordered and delayed, appends
// are lost or their acknowledgements are, exact reads are stale, actors pause for longer than segments last, crash and come back. At
// the end everything heals, and each owner must hold every acknowledged sample, once, with the greatest of the values sent for it, and
// every acknowledged exemplar.
// The wall clock of each actor is up to five minutes wrong, and by another amount after each restart.

import { distributorSettings } from '../../services/distributor/config.ts'
import { distributor } from '../../services/distributor/distributor.ts'
import { ingesterSettings } from '../../services/ingester/config.ts'
import { ingester } from '../../services/ingester/ingester.ts'
import type { Owner } from '../../services/ingester/owner.ts'
import { assert } from '../../shared/base/assert.ts'
import type { Clock } from '../../shared/base/clock.ts'
import { UnavailableError } from '../../shared/base/errors.ts'
import { type Random, seededRandom } from '../../shared/base/random.ts'
import { openBlocks } from '../../shared/blocks/open.ts'
import { type RunningActor, runActor } from '../../shared/bus/actor.ts'
import { ask } from '../../shared/bus/ask.ts'
import { createMemoryHub, type MemoryHub } from '../../shared/bus/memory-bus.ts'
import type { Bus, LogMessage } from '../../shared/bus/port.ts'
import { type ConfigOf, defaultsOf } from '../../shared/config/settings.ts'
import { push } from '../../shared/contracts/write.ts'
import { addPartitions, bootstrap, readPartitions } from '../../shared/membership/bootstrap.ts'
import { asMember, type MemberActor } from '../../shared/membership/member-actor.ts'
import { joinRing } from '../../shared/membership/membership.ts'
import { memoryObjects } from '../../shared/objects/memory-objects.ts'
import { silentLog } from '../../shared/telemetry/log.ts'
import { createMetrics, type Metrics } from '../../shared/telemetry/metrics.ts'
import { encodeWriteV1 } from '../../shared/wire/remote-write-encode.ts'
import { compress } from '../../shared/wire/snappy.ts'
import { Ledger } from './ledger.ts'
import { readLog } from './log-model.ts'
import { Pair, pairTimes } from './pair.ts'
import { readStored, type StoredSamples } from './stored.ts'
import { VirtualClock } from './virtual-clock.ts'

export interface SimOptions {
  readonly seed: number
  readonly without?: ReadonlySet<string>
  /** All wall clocks are right. */
  readonly hasRightClocks?: boolean
  readonly onEvent?: (text: string) => void
}

export interface SimResult {
  readonly seed: number
  readonly faults: readonly string[]
  readonly acknowledgedCount: number
  readonly lateCount: number
  readonly pushCount: number
  /** Segments that were flushed. */
  readonly flushedCount: number
  /** Messages that were purged. */
  readonly purgedCount: number
  /** How often another replica of the HA pair took over. */
  readonly takeoverCount: number
  /** What the owners hold at the end. */
  readonly digests: readonly string[]
}

/** How far a wall clock may be off. */
const CLOCK_MS_MAX = 300_000
const CHAOS_MS = 6_000
const HEAL_MS = 60_000
const TENANT = 'sim'

interface Running {
  readonly id: string
  readonly role: 'distributor' | 'ingester'
  bus: Bus
  actor: RunningActor
  owners: () => readonly Owner[]
  isPaused: boolean
  isDown: boolean
}

export class World {
  readonly clock = new VirtualClock()
  readonly random: Random
  readonly hub: MemoryHub
  readonly ledger = new Ledger()
  private readonly pair: Pair
  private partitionCount: number
  private hasGrown = false
  private readonly options: SimOptions
  private readonly actors: Running[] = []
  private readonly faults: string[] = []
  private readonly digests: string[] = []
  /** Draws of its own, so that a history is the same with right clocks. */
  private readonly clockRandom: Random
  private readonly processes: { readonly metrics: Metrics }[] = []
  private readonly objects = memoryObjects({ clock: this.clock, before: () => this.delayObject() })
  /** Draws of its own. */
  private readonly objectRandom: Random
  private incarnationCount = 0
  private pushCount = 0
  private flushedCount = 0
  /** Per partition: the messages that were purged. */
  private readonly purged = new Map<number, LogMessage[]>()
  lateCount = 0

  constructor(options: SimOptions) {
    this.options = options
    this.random = seededRandom(options.seed)
    this.clockRandom = seededRandom(options.seed ^ 0x5eed)
    this.objectRandom = seededRandom(options.seed ^ 0x0b1ec7)
    this.partitionCount = 1 + this.random.below(2)
    this.hub = createMemoryHub({ clock: this.clock, random: this.random })
    this.pair = new Pair(TENANT, this.clock, options.seed)
  }

  async run(): Promise<SimResult> {
    const whole = this.history()
    let outcome: unknown
    let isOver = false
    whole.then(
      () => {
        isOver = true
      },
      (error: unknown) => {
        isOver = true
        outcome = error
      },
    )
    const isFinished = await this.clock.run(() => isOver, CHAOS_MS + HEAL_MS + 60_000)
    if (!isFinished) this.faults.push('the history did not come to an end')
    if (outcome !== undefined) throw outcome
    const { seed } = this.options
    return {
      seed,
      faults: this.faults,
      acknowledgedCount: this.ledger.acknowledgedCount,
      lateCount: this.lateCount,
      pushCount: this.pushCount,
      flushedCount: this.flushedCount,
      purgedCount: [...this.purged.values()].reduce((sum, kept) => sum + kept.length, 0),
      takeoverCount: this.pair.takeoverCount,
      digests: this.digests,
    }
  }

  private async history(): Promise<void> {
    const admin = this.hub.connect('admin')
    await bootstrap(admin, {
      partitions: this.partitionCount,
      replicationFactor: 2,
      logBytesMax: 64 << 20,
      logReplicas: 1,
    })
    for (let partition = 0; partition < this.partitionCount; partition++) this.archive(partition)
    const starting: Promise<void>[] = []
    for (const id of ['ingester-1', 'ingester-2']) starting.push(this.start(id, 'ingester'))
    for (const id of ['distributor-1', 'distributor-2']) starting.push(this.start(id, 'distributor'))
    await Promise.all(starting)
    this.setFaults()
    const senders = Array.from({ length: 3 }, (_, i) => this.sender(i))
    const replicas = ([0, 1] as const).map((number) => {
      return this.pair.replica(number, this.hub.connect(`replica-${number}`), CHAOS_MS)
    })
    const growth = this.growth(admin)
    await this.chaos()
    await this.heal()
    await Promise.all([...senders, ...replicas])
    await growth
    await this.rest('distributor') // what was given up by its asker may still be on its way to a log
    await this.converge()
    await this.pair.readTakeovers(admin)
    await this.rest('ingester')
    this.check(await this.stored(admin))
    await this.readLateCounts()
  }

  private async start(id: string, role: 'distributor' | 'ingester'): Promise<void> {
    const bus = this.hub.connect(id)
    const clock = this.options.hasRightClocks ? bus.clock : this.wrongClock(bus.clock)
    const metrics = createMetrics()
    if (role === 'distributor') this.processes.push({ metrics })
    const incarnation = `i${++this.incarnationCount}`
    const membership = await joinRing({
      bus,
      clock,
      self: { id, role, zone: id, incarnation, version: 'sim', capacity: 0 },
      options: { heartbeatMs: 1_000, unhealthyAfterMs: 600_000, forgetAfterMs: 3_600_000 },
      onError: () => {},
    })
    const deps = {
      bus,
      objects: this.objects,
      clock,
      random: this.random,
      log: silentLog,
      metrics,
      id,
      incarnation,
      membership,
    }
    const without = new Set([...(this.options.without ?? []), 'silence']) // segments are short here: hardly a tenant would be heard in each
    let owners: () => readonly Owner[] = () => []
    let made: MemberActor
    if (role === 'ingester') {
      const actor = ingester({ ...deps, config: this.ingesterConfig(), without })
      owners = actor.owners
      made = actor
    } else made = distributor({ ...deps, config: this.distributorConfig(), without })
    const actor = runActor(asMember(made, { ...deps, role }), {
      ...{ bus, clock, random: this.random, log: silentLog },
      onFailed: (error) => {
        if (!(error instanceof UnavailableError)) this.faults.push(`${id} failed: ${String(error)}`)
      },
    })
    const running: Running = { id, role, bus, actor, owners, isPaused: false, isDown: false }
    const index = this.actors.findIndex((other) => other.id === id)
    if (index >= 0) this.actors[index] = running
    else this.actors.push(running)
    await actor.ready
  }

  private wrongClock(clock: Clock): Clock {
    const offMs = this.clockRandom.below(2 * CLOCK_MS_MAX + 1) - CLOCK_MS_MAX
    return {
      now: () => clock.now() + offMs,
      monotonic: () => clock.monotonic(),
      after: (delayMs, fn) => clock.after(delayMs, fn),
    }
  }

  private ingesterConfig(): ConfigOf<typeof ingesterSettings> {
    return defaultsOf(ingesterSettings, {
      segmentMinMs: 250,
      segmentMs: 400,
      endReadMs: 200,
      checkpointMs: 1_000,
      flushMs: 100,
      dropAfterMs: 300,
    })
  }

  private distributorConfig(): ConfigOf<typeof distributorSettings> {
    return defaultsOf(distributorSettings, {
      lingerMs: 2,
      appendTimeoutMs: 300,
      pushTimeoutMs: 3_000,
      highWaterMs: 500,
      batchBytesMax: 4096,
      ...pairTimes,
    })
  }

  private setFaults(): void {
    const { random } = this
    const { faults } = this.hub
    faults.delayMs = { minMs: 0, maxMs: random.below(2) * 20 }
    faults.drop = random.next() * 0.05
    faults.duplicate = random.next() * 0.1
    faults.reorder = random.next() * 0.2
    faults.appendDelayMs = { minMs: 0, maxMs: random.below(3) * 50 }
    faults.storeButLoseAck = random.next() * 0.2
    faults.dropBeforeStore = random.next() * 0.2
    faults.kvLoseAck = random.next() * 0.1
    faults.staleRead = random.next() * 0.5
    faults.staleBehindMax = 1 + random.below(8)
  }

  /** Sends pushes one after the other until the chaos is over, each until it is acknowledged. */
  private async sender(number: number): Promise<void> {
    const bus = this.hub.connect(`sender-${number}`)
    const { random, clock } = this
    for (let round = 0; clock.monotonic() < CHAOS_MS; round++) {
      const samples = this.ledger.draw(random, { sender: number, round, startMs: clock.startMs })
      const body = compress(encodeWriteV1({ series: samples }))
      this.pushCount++
      await this.pushUntilAcknowledged(bus, body)
      this.ledger.acknowledge(samples)
      await this.sleep(random.below(60))
    }
  }

  private async pushUntilAcknowledged(bus: Bus, body: Uint8Array): Promise<void> {
    for (let attempt = 0; ; attempt++) {
      try {
        const reply = await ask(bus, push, { tenant: TENANT }, { protocol: 1, body }, { timeoutMs: 4_000 })
        assert(reply.refusal === undefined, `refused: ${reply.refusal?.text}`)
        return
      } catch (error) {
        if (attempt > 200) throw error
        await this.sleep(20 + this.random.below(100))
      }
    }
  }

  /** In some histories partitions are added while all the rest goes on (L19). */
  private async growth(admin: Bus): Promise<void> {
    const chance = seededRandom(this.options.seed * 7 + 3) // of its own, so that growing changes nothing else in a history
    if (chance.next() < 0.6) return
    const { count } = await readPartitions(admin)
    await this.sleep(chance.below(CHAOS_MS / 2))
    const more = 1 + chance.below(2)
    this.hasGrown = true
    this.options.onEvent?.(`${this.clock.monotonic().toFixed(0)} ms: ${more} partitions are added`)
    this.partitionCount = count + more
    for (let partition = count; partition < this.partitionCount; partition++) this.archiveSoon(partition)
    for (let tries = 0; ; tries++) {
      try {
        const before = await readPartitions(admin)
        if (before.count < this.partitionCount) await addPartitions(admin, more)
        if ((await readPartitions(admin)).writable === this.partitionCount) return
      } catch (error) {
        if (!(error instanceof UnavailableError)) throw error
      }
      if (tries > 400) return void this.faults.push('added partitions did not open')
      await this.sleep(100)
    }
  }

  /** Pauses and kills actors at random. A pause may outlast several segments: that is what the acknowledgement rule is for. */
  private async chaos(): Promise<void> {
    while (this.clock.monotonic() < CHAOS_MS) {
      await this.sleep(50 + this.random.below(500))
      const victim = this.actors[this.random.below(this.actors.length)]!
      if (victim.isDown || victim.isPaused) continue
      if (this.random.next() < 0.6) this.pause(victim, 50 + this.random.below(1_500))
      else this.crash(victim, 50 + this.random.below(600))
    }
  }

  private pause(victim: Running, forMs: number): void {
    this.options.onEvent?.(`${this.clock.monotonic().toFixed(0)} ms: ${victim.id} pauses for ${forMs} ms`)
    victim.isPaused = true
    this.hub.pause(victim.id)
    this.clock.after(forMs, () => {
      if (victim.isDown) return
      victim.isPaused = false
      this.hub.resume(victim.id)
    })
  }

  private crash(victim: Running, forMs: number): void {
    this.options.onEvent?.(`${this.clock.monotonic().toFixed(0)} ms: ${victim.id} is killed, back in ${forMs} ms`)
    victim.isDown = true
    this.hub.crash(victim.id)
    this.clock.after(forMs, () => {
      this.restart(victim, 0).catch((error: unknown) => this.faults.push(`restart of ${victim.id}: ${String(error)}`))
    })
  }

  private async restart({ id, role }: Running, attempt: number): Promise<void> {
    try {
      await this.start(id, role)
    } catch (error) {
      if (attempt > 20) throw error
      const begun = this.actors.find((other) => other.id === id)
      if (begun) begun.isDown = true
      this.hub.crash(id)
      await this.sleep(100)
      await this.restart({ id, role } as Running, attempt + 1)
    }
  }

  private async heal(): Promise<void> {
    const { faults } = this.hub
    Object.assign(faults, {
      drop: 0,
      duplicate: 0,
      reorder: 0,
      storeButLoseAck: 0,
      dropBeforeStore: 0,
      kvLoseAck: 0,
      staleRead: 0,
    })
    faults.appendDelayMs = { minMs: 0, maxMs: 0 }
    await this.sleep(2_500)
  }

  private async converge(): Promise<void> {
    for (let i = 0; i < 400; i++) {
      const lastSeqs = Array.from({ length: this.partitionCount }, (_, p) => this.hub.log(`log-${p}`)!.lastSeq)
      const ingesters = this.actors.filter(({ role }) => role === 'ingester')
      const isDone = ingesters.every(({ owners, isDown }) => {
        const held = owners()
        return (
          !isDown &&
          held.length === this.partitionCount &&
          held.every((owner) => owner.appliedSeq === lastSeqs[owner.partition])
        )
      })
      if (isDone) return
      await this.sleep(100)
    }
    this.faults.push('owners did not reach the ends of their logs')
  }

  /** While all goes wrong the object store is slow, and now and then away. */
  private async delayObject(): Promise<void> {
    if (this.clock.monotonic() >= CHAOS_MS) return
    await this.sleep(this.objectRandom.below(15))
    if (this.objectRandom.next() < 0.05) throw new UnavailableError('objects-unavailable', 'the object store is away')
  }

  /** What a purge takes out of a log is kept here, for the judge. */
  private archive(partition: number): void {
    const log = this.hub.log(`log-${partition}`)
    if (log === undefined || this.purged.has(partition)) return
    const kept: LogMessage[] = []
    this.purged.set(partition, kept)
    const purge = log.purge.bind(log)
    log.purge = (belowSeq) => {
      kept.push(...log.read(1, Number.MAX_SAFE_INTEGER).filter(({ seq }) => seq < belowSeq))
      return purge(belowSeq)
    }
  }

  /** As soon as the log exists, which is long before anything of it is purged. */
  private archiveSoon(partition: number): void {
    this.archive(partition)
    if (!this.purged.has(partition)) this.clock.after(5, () => this.archiveSoon(partition))
  }

  /** All of a role stand still: with ingesters that do, what they hold and what blocks hold belongs to one moment. */
  private async rest(resting: Running['role']): Promise<void> {
    for (const { id, role, isDown } of this.actors) if (role === resting && !isDown) this.hub.pause(id)
    await this.sleep(1_000)
  }

  private async stored(admin: Bus): Promise<StoredSamples> {
    const { clock, random, objects } = this
    const blocks = await openBlocks({ bus: admin, objects, clock, random, log: silentLog })
    const stored = await readStored(blocks, TENANT, this.partitionCount)
    blocks.close()
    this.faults.push(...stored.faults)
    for (const segment of stored.flushed.values()) this.flushedCount += segment
    return stored
  }

  private check(stored: StoredSamples): void {
    const ingesters = this.actors.filter(({ role }) => role === 'ingester')
    const beside = { hasGrown: this.hasGrown, stored: stored.values }
    for (const { id, owners } of ingesters) {
      for (const owner of owners()) {
        this.checkAgainstLog(id, owner, stored)
        for (const damage of owner.damages)
          this.faults.push(`${id}: damage without a cause: ${damage.kind} ${damage.text}`)
      }
      this.faults.push(...this.ledger.missingFrom(owners(), TENANT, beside).map((text) => `${id}: ${text}`))
      this.faults.push(...this.ledger.exemplarsMissingFrom(owners(), TENANT).map((text) => `${id}: ${text}`))
      this.faults.push(...this.pair.faultsIn(owners(), stored.values).map((text) => `${id}: ${text}`))
    }
    for (let partition = 0; partition < this.partitionCount; partition++) {
      const held = ingesters.map(({ owners }) => owners().find((other) => other.partition === partition))
      const dropped = Math.max(...held.map((owner) => owner?.state.droppedUpTo ?? 0))
      const digests = held.map((owner) => {
        return owner?.state
          .segments()
          .filter((segment) => segment > dropped)
          .map((segment) => `${segment}=${owner.state.digest(segment)}`)
          .join()
      })
      this.digests.push(...digests.map(String))
      if (new Set(digests).size !== 1)
        this.faults.push(`partition ${partition}: digests differ: ${digests.join(' / ')}`)
    }
  }

  /** Blocks and the owner's state are the set that its log says: nothing lacks, nothing is held twice, nothing stands in a wrong segment. */
  private checkAgainstLog(id: string, { partition, state }: Owner, stored: StoredSamples): void {
    const log = this.hub.log(`log-${partition}`)!
    const whole = [...this.purged.get(partition)!, ...log.read(1, Number.MAX_SAFE_INTEGER)]
    const { samples, doubledBatches } = readLog(partition, whole)
    const flushed = stored.flushed.get(partition) ?? 0
    if (state.droppedUpTo > flushed)
      this.faults.push(
        `${id}: dropped segments up to ${state.droppedUpTo} of partition ${partition}, ${flushed} is flushed`,
      )
    const inBlocks = stored.counts.get(partition) ?? 0
    let held = inBlocks
    for (const segment of state.segments()) {
      if (segment <= flushed) continue
      for (const head of state.heads.values()) held += head.sampleCountOf(segment)
    }
    if (held !== samples.size)
      this.faults.push(
        `${id}: ${inBlocks} samples in blocks and ${held - inBlocks} in memory, the log of partition ${partition} has ${samples.size}`,
      )
    if (doubledBatches.length > 0) this.faults.push(`log ${partition} holds batches twice: ${doubledBatches.join()}`)
  }

  private async readLateCounts(): Promise<void> {
    for (const { metrics } of this.processes) {
      const match = /^carillon_log_late_batches_total (\d+)$/m.exec(await metrics.text())
      this.lateCount += Number(match?.[1] ?? 0)
    }
  }

  private sleep(ms: number): Promise<void> {
    return new Promise((resolve) => this.clock.after(ms, resolve))
  }
}
