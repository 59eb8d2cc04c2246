// What a compactor remembers of each tenant from one turn to the next.
import type { Clock } from '../../shared/base/clock.ts'

export interface TenantState {
  /** When files that belong to no block were last searched for, monotonic; never: when this process began. */
  sweptAt: number
  /** Steps that waited when the tenant was last looked at. */
  waitingSteps: number
  /** Why its last turn, or the last look at it, did not come to its end. */
  error: string | undefined
  /** Turns that failed, one after the other. */
  failureCount: number
  /** Until then it has no turn, monotonic. */
  putOffUntil: number
}

const noFailure = { error: undefined, failureCount: 0, putOffUntil: Number.NEGATIVE_INFINITY }

export class TenantStates {
  readonly #startedAt: number
  /** Bound: one per tenant. */
  readonly #states = new Map<string, TenantState>()

  constructor(clock: Clock) {
    this.#startedAt = clock.monotonic()
  }

  of(tenant: string): TenantState {
    const known = this.#states.get(tenant)
    if (known !== undefined) return known
    const state: TenantState = {
      sweptAt: this.#startedAt,
      waitingSteps: 0,
      ...noFailure,
    }
    this.#states.set(tenant, state)
    return state
  }

  /** Its turn came to its end. */
  succeeded(tenant: string): void {
    Object.assign(this.of(tenant), noFailure)
  }

  /** Of all tenants. */
  waitingSteps(): number {
    return this.#states.values().reduce((sum, state) => sum + state.waitingSteps, 0)
  }
}
