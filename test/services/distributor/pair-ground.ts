// Distributors and an ingester on the memory bus under virtual time, and the replicas of HA pairs that push to them. What is stored
// says who sent it: the value of each sample is the number of its replica.
import { distributorSettings } from '../../../services/distributor/config.ts'
import { distributor } from '../../../services/distributor/distributor.ts'
import { ingesterSettings } from '../../../services/ingester/config.ts'
import { ingester } from '../../../services/ingester/ingester.ts'
import type { Owner } from '../../../services/ingester/log/owner.ts'
import type { Clock } from '../../../shared/base/clock.ts'
import { type Random, seededRandom } from '../../../shared/base/random.ts'
import { ask } from '../../../shared/bus/ask.ts'
import { createMemoryHub, type MemoryHub } from '../../../shared/bus/memory/memory-bus.ts'
import type { Bus, KvBucket } from '../../../shared/bus/port.ts'
import { runActor } from '../../../shared/bus/run-actor.ts'
import { type ConfigOf, defaultsOf } from '../../../shared/config/settings.ts'
import {
  ELECTIONS_BUCKET,
  type ElectionNewsReply,
  type ElectionRecord,
  electionKey,
  electionNews,
  electionRecord,
} from '../../../shared/contracts/elections.ts'
import { type PushReply, pushTo } from '../../../shared/contracts/write.ts'
import { bootstrap } from '../../../shared/membership/bootstrap.ts'
import { asMember } from '../../../shared/membership/member-actor.ts'
import { joinRing } from '../../../shared/membership/membership.ts'
import { labelsFrom } from '../../../shared/model/labels.ts'
import { memoryObjects } from '../../../shared/objects/memory-objects.ts'
import { silentLog } from '../../../shared/telemetry/log.ts'
import { createMetrics } from '../../../shared/telemetry/metrics.ts'
import { SampleColumns } from '../../../shared/tsdb/columns.ts'
import { encodeWriteV1 } from '../../../shared/wire/remote-write-encode.ts'
import { compress } from '../../../shared/wire/snappy.ts'
import { valueIn } from '../../records.ts'
import { VirtualClock } from '../../sim/virtual-clock.ts'

const TENANT = 'acme'
const NEVER_MS = 100 * 3_600_000

export interface PairOptions {
  readonly seed?: number
  readonly distributors?: number
  /** Milliseconds that a distributor's wall clock is off. */
  readonly skewMs?: Readonly<Record<string, number>>
  readonly config?: Partial<ConfigOf<typeof distributorSettings>>
  /** Parts of the protocol left out, for counter-proofs. */
  readonly without?: ReadonlySet<string>
}

export interface Sent {
  readonly replica: string | undefined
  readonly cluster?: string | undefined
  /** Seconds since the start. */
  readonly atS: readonly number[]
  readonly metric?: string
}

export class PairGround {
  readonly clock = new VirtualClock()
  readonly random: Random
  readonly hub: MemoryHub
  readonly ids: readonly string[]
  private readonly options: PairOptions
  private readonly objects = memoryObjects({ clock: this.clock })
  private sender!: Bus
  private bucket!: KvBucket
  private owners: () => readonly Owner[] = () => []

  constructor(options: PairOptions) {
    this.options = options
    this.random = seededRandom(options.seed ?? 1)
    this.hub = createMemoryHub({ clock: this.clock, random: this.random })
    this.ids = Array.from({ length: options.distributors ?? 2 }, (_, i) => `distributor-${i + 1}`)
  }

  async start(): Promise<void> {
    this.sender = this.hub.connect('sender')
    await bootstrap(this.sender, { partitions: 1, replicationFactor: 1, logBytesMax: 64 << 20, logReplicas: 1 })
    this.bucket = await this.sender.bucket(ELECTIONS_BUCKET)
    await Promise.all([this.run('ingester-1', 'ingester'), ...this.ids.map((id) => this.run(id, 'distributor'))])
  }

  private async run(id: string, role: 'distributor' | 'ingester'): Promise<void> {
    const bus = this.hub.connect(id)
    const skewMs = this.options.skewMs?.[id] ?? 0
    const clock: Clock = {
      now: () => bus.clock.now() + skewMs,
      monotonic: () => bus.clock.monotonic(),
      uptime: () => bus.clock.uptime(),
      after: (ms, fn) => bus.clock.after(ms, fn),
      turn: (fn) => bus.clock.turn(fn),
    }
    const self = { id, role, zone: '', incarnation: id, version: 'test', capacity: 0 }
    const options = { heartbeatMs: 20_000, unhealthyAfterMs: NEVER_MS, forgetAfterMs: NEVER_MS }
    const membership = await joinRing({ bus, clock, self, options, onError: () => {} })
    const deps = {
      bus,
      objects: this.objects,
      clock,
      random: this.random,
      log: silentLog,
      metrics: createMetrics(),
      ...self,
      membership,
    }
    const without = this.options.without ?? new Set<string>()
    const made =
      role === 'ingester'
        ? ingester({ ...deps, config: defaultsOf(ingesterSettings, { endReadMs: 5_000 }) })
        : distributor({ ...deps, without, config: defaultsOf(distributorSettings, this.options.config) })
    if ('owners' in made) this.owners = made.owners as () => readonly Owner[]
    await runActor(asMember(made, deps), { bus, clock, random: this.random, log: silentLog }).ready
  }

  sleep(seconds: number): Promise<void> {
    return new Promise((resolve) => this.clock.after(seconds * 1000, resolve))
  }

  get nowS(): number {
    return (this.clock.now() - this.clock.startMs) / 1000
  }

  push(distributorNumber: number, ...sent: readonly Sent[]): Promise<PushReply> {
    const series = sent.map(({ replica, cluster = 'eu', atS, metric = 'm' }) => ({
      labels: labelsFrom({ __name__: metric, __replica__: replica ?? '', cluster }),
      samples: atS.map((s) => ({
        time: this.clock.startMs + Math.round(s * 1000),
        value: replica === undefined ? 0 : replica.charCodeAt(0) - 96,
      })),
    }))
    const request = { protocol: 1, body: compress(encodeWriteV1({ series })) } as const
    const to = { id: this.ids[distributorNumber - 1]!, tenant: TENANT }
    return ask(this.sender, pushTo, to, request, { timeoutMs: 20_000 })
  }

  async record(cluster = 'eu'): Promise<ElectionRecord | undefined> {
    const entry = await this.bucket.get(electionKey(TENANT, cluster))
    return entry?.value && valueIn(electionRecord, entry.value)
  }

  /** Whatever stands in the place of an election's record. */
  async putRecord(text: string, cluster = 'eu'): Promise<void> {
    await this.bucket.put(electionKey(TENANT, cluster), Buffer.from(text))
  }

  async standing(cluster = 'eu'): Promise<string> {
    return Buffer.from((await this.bucket.get(electionKey(TENANT, cluster)))!.value!).toString()
  }

  /** As a person does through a gateway. */
  async change(to: (record: ElectionRecord) => ElectionRecord, cluster = 'eu'): Promise<void> {
    const entry = await this.bucket.get(electionKey(TENANT, cluster))
    await this.bucket.update(
      entry!.key,
      electionRecord.format.encode(to(valueIn(electionRecord, entry!.value!))),
      entry!.revision,
    )
  }

  news(distributorNumber: number): Promise<ElectionNewsReply> {
    return ask(this.sender, electionNews, { id: this.ids[distributorNumber - 1]! }, { tenant: TENANT }, {})
  }

  /** What the ingester holds: labels → seconds and replica (a, b, …) of each sample. */
  async stored(): Promise<Map<string, (readonly [number, string])[]>> {
    await this.sleep(2)
    const held = new Map<string, (readonly [number, string])[]>()
    const columns = new SampleColumns()
    for (const owner of this.owners()) {
      const head = owner.state.heads.get(TENANT)
      for (let ref = 0; ref < (head?.seriesCount ?? 0); ref++) {
        columns.clear()
        head!.readInto(ref, { startMs: Number.NEGATIVE_INFINITY, endMs: Number.POSITIVE_INFINITY }, columns)
        const rows = Array.from({ length: columns.count }, (_, i) => {
          return [(columns.times[i]! - this.clock.startMs) / 1000, ' abcdef'[columns.values[i]!]!] as const
        })
        held.set(head!.labelsOf(ref).join(' '), rows)
      }
    }
    return held
  }

  /** The stored samples of metric m as `10a 15a 46b`. */
  async rows(cluster = 'eu'): Promise<string> {
    const rows = (await this.stored()).get(`__name__ m cluster ${cluster}`) ?? []
    return rows.map(([s, replica]) => `${s}${replica}`).join(' ')
  }
}

/** Runs a story under virtual time. */
export async function underVirtualTime(
  options: PairOptions,
  story: (ground: PairGround) => Promise<void>,
): Promise<void> {
  const ground = new PairGround(options)
  let isOver = false
  const told = ground
    .start()
    .then(() => story(ground))
    .finally(() => {
      isOver = true
    })
  told.catch(() => {}) // awaited below
  const isFinished = await ground.clock.run(() => isOver, NEVER_MS)
  if (!isFinished) throw new Error('the story did not come to an end')
  await told
}
