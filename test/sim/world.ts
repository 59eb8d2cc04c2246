// One simulated history: the very actors of services/ in one process, on the memory bus, under virtual time and one seed.
//
// Clients send, read, delete and upload; meanwhile all that faults.ts names goes wrong. Then everything heals, everything that was begun must
// come to its end, and what is answered and stored must be what the ledger says. README.md tells the whole of it.

import { leaveOut } from '../../shared/blocks/left-out.ts'
import { openBlocks } from '../../shared/blocks/open.ts'
import type { Bus } from '../../shared/bus/port.ts'
import { bootstrap } from '../../shared/membership/bootstrap.ts'
import type { ObjectStore } from '../../shared/objects/port.ts'
import { silentLog } from '../../shared/telemetry/log.ts'
import { Cast } from './cast.ts'
import { damageLogs, disturb, endFaults, grow, partitionsOf, scale, setFaults } from './chaos.ts'
import { deleter } from './deleter.ts'
import { checkMemory, checkStored, converge, digestsAbove, progress } from './end.ts'
import { faultyObjects } from './faulty-objects.ts'
import { Ledger } from './ledger.ts'
import { PAIR_QUERY, Pair } from './pair.ts'
import { readAtLast, reader, strongly } from './reader.ts'
import { Scene, type SceneOptions, TENANTS } from './scene.ts'
import { SENDERS, sender } from './senders.ts'
import { uploader } from './uploader.ts'

export interface SimResult {
  readonly seed: number
  readonly faults: readonly string[]
  /** What happened, and how often. */
  readonly counts: Readonly<Record<string, number>>
  /** What the owners hold at the end. */
  readonly digests: readonly string[]
}

const HISTORY_MS_MAX = 400_000
const LOG_BYTES = 64 << 20
const SMALL_LOG_BYTES = 24_000
const REPLICATION = 2

export class World {
  private readonly scene: Scene
  private readonly cast: Cast
  private readonly ledger = new Ledger()
  private readonly objects: ObjectStore
  private readonly pair: Pair
  private digests: readonly string[] = []

  constructor(options: SceneOptions) {
    this.scene = new Scene(options)
    leaveOut(this.scene.without)
    this.objects = faultyObjects(this.scene)
    this.cast = new Cast(this.scene, this.objects)
    this.pair = new Pair(this.scene, TENANTS[0])
  }

  async run(): Promise<SimResult> {
    const { scene } = this
    let outcome: { error?: unknown } | undefined
    this.history().then(
      () => {
        outcome = {}
      },
      (error: unknown) => {
        outcome = { error }
      },
    )
    const isFinished = await scene.clock.run(() => outcome !== undefined, HISTORY_MS_MAX)
    if (!isFinished) scene.fault('the history did not come to an end')
    if (outcome?.error !== undefined) throw outcome.error
    scene.count('samples acknowledged', this.ledger.acknowledgedCount)
    scene.count('messages purged', scene.logs.purgedCount)
    return { seed: scene.seed, faults: scene.faults, counts: scene.counts, digests: this.digests }
  }

  private async history(): Promise<void> {
    const { scene, cast } = this
    scene.trace(`seed ${scene.seed}: ${scene.plan.names().join(', ')}`)
    const admin = scene.hub.connect('admin')
    await this.begin(admin)
    setFaults(scene)
    const clients = this.clients(admin)
    await disturb(scene, cast)
    scene.heal()
    endFaults(scene)
    await Promise.all(clients)
    const isDone = await progress(scene, cast)
    await this.readAll()
    await cast.rest('distributor') // what was given up by its asker may still be on its way to a log
    if (isDone) await progress(scene, cast)
    await checkMemory(scene, cast)
    if (isDone) await converge(scene, cast)
    await cast.rest('ingester')
    await this.judge(admin)
  }

  private async begin(admin: Bus): Promise<void> {
    const { plan } = this.scene
    const logBytesMax = plan.has('full-logs') ? SMALL_LOG_BYTES : LOG_BYTES
    const partitions = 1 + plan.random('partitions').below(2)
    await bootstrap(admin, { partitions, replicationFactor: REPLICATION, logBytesMax, logReplicas: 1 })
    const hasThird = plan.has('ring') || plan.has('damage-ring')
    const ingesters = ['ingester-1', 'ingester-2', ...(hasThird ? ['ingester-3'] : [])]
    const compactors = plan.hasCompactors ? ['compactor-1', 'compactor-2'] : []
    await Promise.all([
      ...ingesters.map((id) => this.cast.start(id, 'ingester')),
      ...['distributor-1', 'distributor-2'].map((id) => this.cast.start(id, 'distributor')),
      this.cast.start('querier-1', 'querier'),
      ...compactors.map((id) => this.cast.start(id, 'compactor')),
    ])
  }

  /** All that goes on until the chaos is over, and a little longer. */
  private clients(admin: Bus): Promise<void>[] {
    const { scene, cast, ledger, pair } = this
    const { plan } = scene
    const clients = Array.from({ length: SENDERS }, (_, number) => sender(scene, ledger, number))
    clients.push(reader(scene, ledger))
    clients.push(this.look())
    if (plan.has('pair')) clients.push(pair.replica(0), pair.replica(1))
    if (plan.has('deletions')) clients.push(deleter(scene, ledger))
    if (plan.has('uploads')) clients.push(uploader(scene, ledger, this.objects))
    if (plan.has('growth')) clients.push(grow(scene, admin))
    if (plan.has('scaling')) clients.push(scale(scene, cast))
    if (plan.has('cut-tail') || plan.has('anew') || plan.has('lost-marks')) clients.push(damageLogs(scene, cast))
    const told = (error: unknown) => scene.fault(`a client failed: ${(error as Error).stack ?? String(error)}`)
    return clients.map((client) => client.catch(told))
  }

  private async look(): Promise<void> {
    while (this.scene.isChaos()) {
      this.cast.look()
      await this.scene.sleep(100)
    }
  }

  private async readAll(): Promise<void> {
    const { scene, ledger } = this
    const bus = scene.hub.connect('last-reader')
    for (const tenant of TENANTS) await readAtLast(scene, ledger, { bus, tenant })
    if (!scene.plan.has('pair') || scene.plan.isDamaging) return
    const answer = await strongly(scene, bus, TENANTS[0], PAIR_QUERY)
    if (typeof answer === 'string') scene.fault(`the HA pair cannot be read when all is well: ${answer}`)
    else for (const text of this.pair.faultsIn(answer.shown)) scene.fault(text)
    scene.count('takeovers', this.pair.takeovers())
  }

  private async judge(admin: Bus): Promise<void> {
    const { scene, cast, ledger, objects } = this
    const { clock, random } = scene
    const blocks = await openBlocks({ bus: admin, objects, clock, random, log: silentLog })
    await checkStored(scene, cast, ledger, blocks)
    blocks.close()
    const { count } = partitionsOf(scene)
    for (let partition = 0; partition < count; partition++) {
      scene.count('segments flushed', scene.logs.flushed(partition)?.segment ?? 0)
      for (const { owner } of cast.owners())
        if (owner.partition === partition) this.digests = [...this.digests, digestsAbove(owner, 0)]
    }
    await this.readLateCounts()
  }

  private async readLateCounts(): Promise<void> {
    for (const { role, metrics } of this.cast.metrics) {
      if (role !== 'distributor') continue
      const match = /^carillon_log_late_batches_total (\d+)$/m.exec(await metrics.text())
      this.scene.count('late batches', Number(match?.[1] ?? 0))
    }
  }
}
