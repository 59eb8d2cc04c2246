// The object store that the settings name, opened for one process.
import { systemClock } from '../../shared/base/clock.ts'
import type { CommonConfig } from '../../shared/config/common.ts'
import { directoryObjects } from '../../shared/objects/directory-objects.ts'
import { natsObjects } from '../../shared/objects/nats-objects.ts'
import type { ObjectStore } from '../../shared/objects/port.ts'
import type { Log } from '../../shared/telemetry/log.ts'
import { serversOf } from './connect.ts'
import { SetupError } from './setup-error.ts'

export interface OpenObjectsOptions {
  readonly common: CommonConfig
  /** Addresses, separated by commas. */
  readonly nats: string
  readonly name: string
  readonly log: Log
}

/** On a connection of its own, so that blocks under way do not stand before other requests. */
export async function openObjects({ common, nats, name, log }: OpenObjectsOptions): Promise<ObjectStore> {
  if (common.objects === 'directory') {
    if (common.objectsDir === '')
      throw new SetupError(2, '--objects=directory wants --objects-dir, the folder of the blocks')
    return directoryObjects(common.objectsDir, { clock: systemClock })
  }
  return natsObjects({
    servers: serversOf(nats),
    prefix: common.prefix,
    name: `${name} objects`,
    clock: systemClock,
    onEvent: (text, level) => log[level]({}, text),
  })
}
