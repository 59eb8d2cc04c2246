// What is done by the clock for each partition that is followed, in lanes of their own (INGESTER-5): ends are read, segments opened, damage filled, and
// checkpoints written.
import type { Lanes } from '../../shared/base/lanes.ts'
import type { ServiceDeps } from '../../shared/membership/deps.ts'
import type { StringTable } from '../../shared/tsdb/head/string-table.ts'
import type { IngesterConfig } from './config.ts'
import { leadPartition } from './leader.ts'
import type { FillDeps } from './log/filler.ts'
import type { OwnerMetrics } from './log/owner-metrics.ts'
import { endLane, type Held, type Ownership } from './ownership.ts'
import type { Stores } from './stores.ts'

export type RoundsDeps = Pick<ServiceDeps, 'bus' | 'clock' | 'random' | 'log' | 'metrics' | 'membership' | 'id'> & {
  readonly config: IngesterConfig
  readonly counts: OwnerMetrics
  readonly strings: StringTable
  readonly lanes: Lanes
  readonly ownership: Ownership
  readonly stores: Stores
}

export class Rounds {
  readonly #deps: RoundsDeps

  constructor(deps: RoundsDeps) {
    this.#deps = deps
  }

  async readEnds(): Promise<void> {
    const { lanes, ownership } = this.#deps
    for (const owner of ownership.owners()) void lanes.begin(endLane(owner.partition), () => owner.readEnd())
  }

  async lead(): Promise<void> {
    const { bus, clock, random, log, config, counts, metrics, id, lanes, ownership, stores } = this.#deps
    const { bucket, blocks } = stores.all
    const leading = { bus, bucket, clock, random, log, config, metrics: counts, registry: metrics, id, blocks }
    for (const owner of ownership.owners()) {
      const { partition } = owner
      if (ownership.leads(partition)) void lanes.begin(`lead ${partition}`, () => leadPartition(owner, leading))
    }
  }

  async fill(): Promise<void> {
    const { lanes, ownership, stores } = this.#deps
    for (const held of ownership.held()) {
      const { owner, filler } = held
      const { partition, damages } = owner
      if (damages.every(({ state }) => state !== 'open')) continue
      const filling = this.#fillingOf(held)
      void lanes.begin(`fill ${partition}`, async () => {
        await filler.fill(filling)
        await stores.gaps.add(partition, damages, owner.state.segment) // owners that began behind the loss of an end answer as well (FILL-7)
      })
    }
  }

  async saveCheckpoints(): Promise<void> {
    const { lanes, ownership } = this.#deps
    for (const owner of ownership.owners()) {
      void lanes.begin(`save the checkpoint of ${owner.partition}`, () => owner.saveCheckpoint())
    }
  }

  #fillingOf({ owner: { partition } }: Held): FillDeps {
    const { bus, clock, log, counts, strings, membership, id } = this.#deps
    const [holders, owners] = [membership.holders(partition), membership.owners(partition)]
    const ids = [...new Set([...holders, ...owners])].filter((other) => other !== id)
    const others = ids.map((other) => ({ id: other, holds: holders.includes(other) }))
    return { bus, clock, log, metrics: counts, strings, others, isConfirmed: membership.isConfirmed() }
  }
}
