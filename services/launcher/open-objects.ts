// The object store that the settings name, opened for one process.
import { systemClock } from '../../shared/base/clock.ts'
import { patiently } from '../../shared/base/patience.ts'
import type { CommonConfig } from '../../shared/config/common.ts'
import { directoryObjects } from '../../shared/objects/directory-objects.ts'
import { natsObjects } from '../../shared/objects/nats-objects.ts'
import type { ObjectStore } from '../../shared/objects/port.ts'
import type { Log } from '../../shared/telemetry/log.ts'
import { addressOf } from './connect.ts'
import { SetupError } from './setup-error.ts'

/** The bus is connected by then: a server that left since comes back, or another one takes its place. */
const CONNECT_MS_MAX = 60_000

export interface OpenObjectsOptions {
  readonly common: CommonConfig
  readonly name: string
  readonly log: Log
  readonly signal: AbortSignal
}

/** On a connection of its own, so that blocks under way do not stand before other requests. */
export async function openObjects({ common, name, log, signal }: OpenObjectsOptions): Promise<ObjectStore> {
  if (common.objects === 'directory') {
    if (common.objectsDir === '')
      throw new SetupError(2, '--objects=directory wants --objects-dir, the folder of the blocks')
    return directoryObjects(common.objectsDir, { clock: systemClock })
  }
  const onEvent = (text: string, level: 'debug' | 'info' | 'warn' | 'error') => log[level]({}, text)
  const options = {
    ...addressOf(common),
    prefix: common.prefix,
    name: `${name} objects`,
    clock: systemClock,
    onEvent,
  }
  return patiently(() => natsObjects(options), {
    clock: systemClock,
    withinMs: CONNECT_MS_MAX,
    onFailure: ({ message }) => log.warn({}, message),
    signal,
  })
}
