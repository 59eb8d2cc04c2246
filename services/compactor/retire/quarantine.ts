// Blocks that cannot be read as they should: left alone for a while, so that the tenant's others go on. In memory: damage is found again.
import type { Clock } from '../../../shared/base/clock.ts'

export interface AsideBlock {
  readonly tenant: string
  readonly ulid: string
  readonly reason: string
}

export class Aside {
  private readonly clock: Clock
  private readonly retryMs: number
  /** By name of the block. Bound: those that were found damaged within `retryMs`. */
  private readonly blocks = new Map<string, { readonly block: AsideBlock; readonly until: number }>()

  constructor(clock: Clock, retryMs: number) {
    this.clock = clock
    this.retryMs = retryMs
  }

  add(block: AsideBlock): void {
    const nowMs = this.clock.monotonic()
    for (const [ulid, { until }] of this.blocks) if (until <= nowMs) this.blocks.delete(ulid)
    this.blocks.set(block.ulid, { block, until: nowMs + this.retryMs })
  }

  has(ulid: string): boolean {
    return (this.blocks.get(ulid)?.until ?? Number.NEGATIVE_INFINITY) > this.clock.monotonic()
  }

  list(tenant?: string): AsideBlock[] {
    return [...this.blocks.values()]
      .map(({ block }) => block)
      .filter(({ ulid, tenant: own }) => this.has(ulid) && (tenant === undefined || own === tenant))
  }
}
