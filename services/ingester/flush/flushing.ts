// Flushing over all partitions of an ingester, by the clock and by hand (INGESTER-4): where it leads it flushes, purges and tries again what is set
// aside, and it frees what is in blocks wherever it follows.
import type { Clock } from '../../../shared/base/clock.ts'
import { CarillonError } from '../../../shared/base/errors.ts'
import type { Lanes } from '../../../shared/base/lanes.ts'
import type { Random } from '../../../shared/base/random.ts'
import type { Bus } from '../../../shared/bus/port.ts'
import type { FlushReply, FlushRequest } from '../../../shared/contracts/flush.ts'
import type { RebuildReply, RebuildRequest } from '../../../shared/contracts/scrubbing.ts'
import type { Log } from '../../../shared/telemetry/log.ts'
import type { StringTable } from '../../../shared/tsdb/head/string-table.ts'
import type { IngesterConfig } from '../config.ts'
import type { Owner } from '../log/owner.ts'
import type { Ownership } from '../ownership.ts'
import type { Stores } from '../stores.ts'
import { type AfterFlushDeps, addSupplement, dropFlushed, purgeLog } from './after-flush.ts'
import { AsideRetries } from './aside-retries.ts'
import type { BlockBuilder } from './block-builder.ts'
import { type FlushStep, flushNext } from './flush.ts'
import type { FlushMetrics } from './flush-metrics.ts'
import { answerFlush } from './flush-now.ts'
import { rebuildBlock } from './rebuild.ts'

export interface FlushingDeps {
  readonly bus: Bus
  readonly clock: Clock
  readonly random: Random
  readonly config: IngesterConfig
  readonly log: Log
  readonly counted: FlushMetrics
  readonly strings: StringTable
  readonly builder: BlockBuilder
  readonly lanes: Lanes
  readonly ownership: Ownership
  readonly stores: Stores
  /** Parts of the protocol left out; only the simulation's counter-proofs set it. */
  readonly without?: ReadonlySet<string>
  /** Called when a step of a flush is done; only tests set it. */
  readonly onStep?: (step: FlushStep) => void
}

export class Flushing {
  readonly #deps: FlushingDeps
  #retries: AsideRetries | undefined

  constructor(deps: FlushingDeps) {
    this.#deps = deps
  }

  async flushAll(): Promise<void> {
    const { ownership } = this.#deps
    for (const owner of ownership.owners()) {
      const { partition } = owner
      if (!ownership.leads(partition)) continue
      await this.#attempt(owner, 'flush', async () => {
        while (ownership.leads(partition) && (await flushNext(owner, this.#afterFlush()))) {}
      })
      await this.#attempt(owner, 'purge', () => purgeLog(owner, this.#afterFlush()))
    }
  }

  async retryAsides(): Promise<void> {
    const { lanes } = this.#deps
    const retries = this.#openRetries()
    const led = this.#led()
    void lanes.begin('try again what is set aside', () => retries.retry(led))
  }

  async dropAll(): Promise<void> {
    for (const { owner, flushedSeen } of this.#deps.ownership.held()) {
      await this.#attempt(owner, 'drop', () => dropFlushed(owner, flushedSeen, this.#afterFlush()))
    }
  }

  /** What an administrator asks for. */
  flushNow(asked: FlushRequest, signal: AbortSignal): Promise<FlushReply> {
    const { clock, stores } = this.#deps
    const { blocks, asides } = stores
    return answerFlush(asked, { led: this.#led(), blocks, asides, clock, signal })
  }

  rebuild(asked: RebuildRequest): Promise<RebuildReply> {
    return rebuildBlock(this.#deps.ownership.ownerOf(asked.partition), asked, this.#afterFlush())
  }

  #led(): readonly Owner[] {
    const { ownership } = this.#deps
    return ownership.owners().filter(({ partition }) => ownership.leads(partition))
  }

  #openRetries(): AsideRetries {
    const { clock, log, builder, stores } = this.#deps
    const { blocks, asides } = stores
    this.#retries ??= new AsideRetries({
      ...{ blocks, clock, log, builder, asides },
      add: (holder, of, added) => addSupplement(holder, of, added, this.#afterFlush()),
    })
    return this.#retries
  }

  /** What fails for one partition is tried again, and holds up no other. */
  async #attempt({ partition }: Owner, what: string, work: () => Promise<void>): Promise<void> {
    const { counted, log } = this.#deps
    try {
      await work()
    } catch (error) {
      if (!(error instanceof CarillonError)) throw error
      counted.failures.inc()
      log.warn({ partition, code: error.code, reason: error.message }, `${what} did not succeed and is tried again`)
    }
  }

  #afterFlush(): AfterFlushDeps {
    const { bus, builder, clock, random, config, log, strings, counted, stores, onStep, without } = this.#deps
    const { blocks, asides, gaps } = stores
    return {
      ...{ bus, blocks, asides, gaps, builder, clock, random, config, log, strings, metrics: counted },
      ...(onStep && { onStep }),
      ...(without && { without }),
    }
  }
}
