// What a compactor does now and did, for people: kept in memory, lost with the process.
import type { Clock } from '../../../shared/base/clock.ts'
import type { CompactionStep } from '../../../shared/contracts/compaction.ts'

const STEPS_KEPT = 200

type Editable<T> = { -readonly [K in keyof T]: T[K] }
export type Running = Editable<CompactionStep> & { readonly startedAt: number }

export class History {
  private readonly clock: Clock
  private readonly running = new Set<Running>()
  private readonly past: CompactionStep[] = []

  constructor(clock: Clock) {
    this.clock = clock
  }

  begin(tenant: string, why: string, sources: readonly { readonly ulid: string; readonly bytes: number }[]): Running {
    const step: Running = {
      tenant,
      why,
      startedAt: this.clock.monotonic(),
      startedAtMs: this.clock.now(),
      sources: sources.map(({ ulid }) => ulid),
      results: [],
      ...{ samplesIn: 0, samplesOut: 0, duplicates: 0, removed: 0, bytesOut: 0, bytesRead: 0 },
      bytesIn: sources.reduce((sum, { bytes }) => sum + bytes, 0),
    }
    this.running.add(step)
    return step
  }

  end(step: Running, outcome: NonNullable<CompactionStep['outcome']>, error?: string): CompactionStep {
    this.running.delete(step)
    const { startedAt, ...kept } = step
    const tookMs = this.clock.monotonic() - startedAt
    const ended: CompactionStep = { ...kept, tookMs, outcome, ...(error === undefined ? {} : { error }) }
    this.past.unshift(ended)
    this.past.length = Math.min(this.past.length, STEPS_KEPT)
    return ended
  }

  current(tenant?: string): CompactionStep[] {
    return [...this.running]
      .filter((step) => tenant === undefined || step.tenant === tenant)
      .map(({ startedAt: _, ...step }) => step)
  }

  list(tenant?: string): CompactionStep[] {
    return this.past.filter((step) => tenant === undefined || step.tenant === tenant)
  }
}
