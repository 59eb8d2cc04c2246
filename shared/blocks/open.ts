// Opens what is stored of blocks, for one actor: the watch over the bucket begins here.
import type { Clock } from '../base/clock.ts'
import { UnavailableError } from '../base/errors.ts'
import type { Random } from '../base/random.ts'
import type { Bus } from '../bus/port.ts'
import type { ObjectStore } from '../objects/port.ts'
import type { Log } from '../telemetry/log.ts'
import type { Blocks } from './port.ts'

export interface BlocksDeps {
  readonly bus: Bus
  readonly objects: ObjectStore
  readonly clock: Clock
  readonly random: Random
  readonly log: Log
}

/** Resolves when the watch has shown what is present. */
export async function openBlocks(_deps: BlocksDeps): Promise<Blocks> {
  throw new UnavailableError('blocks-unavailable', 'blocks are not opened yet')
}
