// What every service is given by the composition root: its doors to the world.
import type { Clock } from '../base/clock.ts'
import type { Random } from '../base/random.ts'
import type { Bus } from '../bus/port.ts'
import type { ObjectStore } from '../objects/port.ts'
import type { Log } from '../telemetry/log.ts'
import type { Metrics } from '../telemetry/metrics.ts'
import type { Membership } from './membership.ts'

export interface ServiceDeps {
  readonly bus: Bus
  readonly objects: ObjectStore
  readonly clock: Clock
  readonly random: Random
  readonly log: Log
  readonly metrics: Metrics
  /** Unique in the system, one subject token, e.g. `ingester-1`. */
  readonly id: string
  /** 16 hex digits, new in every process. */
  readonly incarnation: string
  readonly membership: Membership
}
