// What everybody in a simulated history shares: its time, its chance, its bus, and where faults are told.
import { type Random, seededRandom } from '../../shared/base/random.ts'
import { createMemoryHub, type MemoryHub } from '../../shared/bus/memory/memory-bus.ts'
import { type Asked, Plan } from './faults.ts'
import { LogWatch } from './log-watch.ts'
import { VirtualClock } from './virtual-clock.ts'

export interface SceneOptions extends Asked {
  readonly seed: number
  /** Parts of the protocols that are left out. */
  readonly without?: ReadonlySet<string>
  /** All wall clocks are right. */
  readonly hasRightClocks?: boolean
  readonly onEvent?: (text: string) => void
}

/** Progress has this long, of virtual time, when all is well: several segments, windows and leases, and an append whose answer was lost. */
export const PROGRESS_MS_MAX = 15_000
/** Two tenants that send the very same series and times. */
export const TENANTS = ['sim', 'other'] as const
export const FAULTS_SHOWN_MAX = 10
/** Nobody waits for long for an answer that is lost. */
const CALL_MS_MAX = 1_000
const MOMENT_MS = 1e-6

export class Scene {
  readonly options: SceneOptions
  readonly seed: number
  readonly plan: Plan
  readonly clock = new VirtualClock({ isPure: true })
  /** Of the hub and of actors. */
  readonly random: Random
  readonly hub: MemoryHub
  readonly logs: LogWatch
  readonly without: ReadonlySet<string>
  readonly faults: string[] = []
  readonly counts: Record<string, number> = {}
  /** How long all goes wrong. */
  readonly chaosMs: number
  private lastMoment = 0
  private isHealed = false

  constructor(options: SceneOptions) {
    this.options = options
    this.seed = options.seed
    this.plan = new Plan(options.seed, options)
    this.without = options.without ?? new Set()
    this.random = seededRandom(options.seed)
    this.chaosMs = 1_200 + this.plan.random('length').below(2_400)
    this.logs = new LogWatch(this)
    this.hub = createMemoryHub({
      clock: this.clock,
      random: this.random,
      callTimeoutMs: CALL_MS_MAX,
      onStored: (stored) => this.logs.onStored(stored),
      onHandlerError: (error) => this.fault(`a handler threw: ${String(error)}`),
      onPurge: (purge) => this.logs.onPurge(purge),
    })
    this.hub.faults.onDeliver = (delivery) => this.logs.onDeliver(delivery)
  }

  /** Virtual milliseconds, later than every moment before. */
  moment(): number {
    this.lastMoment = Math.max(this.clock.monotonic(), this.lastMoment + MOMENT_MS)
    return this.lastMoment
  }

  isChaos(): boolean {
    return !this.isHealed && this.clock.monotonic() < this.chaosMs
  }

  heal(): void {
    this.isHealed = true
    this.trace('everything heals')
  }

  count(name: string, by = 1): void {
    this.counts[name] = (this.counts[name] ?? 0) + by
  }

  fault(text: string): void {
    if (this.faults.length < FAULTS_SHOWN_MAX) this.faults.push(`${this.clock.monotonic().toFixed(0)} ms: ${text}`)
    this.trace(`FAULT ${text}`)
  }

  trace(text: string): void {
    this.options.onEvent?.(`${this.clock.monotonic().toFixed(0).padStart(6)} ms  ${text}`)
  }

  sleep(ms: number): Promise<void> {
    return new Promise((resolve) => this.clock.after(ms, resolve))
  }

  /** True as soon as `isDone`, false after `withinMs`. */
  async until(isDone: () => boolean, withinMs: number, stepMs = 50): Promise<boolean> {
    const untilMs = this.clock.monotonic() + withinMs
    while (!isDone()) {
      if (this.clock.monotonic() >= untilMs) return false
      await this.sleep(stepMs)
    }
    return true
  }
}
