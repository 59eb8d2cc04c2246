// Waits for NATS, makes the streams and buckets that actors expect, and asks how durable the server is.
import { systemClock } from '../../shared/base/clock.ts'
import { RefusedError, textOf } from '../../shared/base/errors.ts'
import { patiently } from '../../shared/base/patience.ts'
import { purgeBoundaries } from '../../shared/blocks/watermarks.ts'
import type { Bus, ServerFacts } from '../../shared/bus/port.ts'
import type { CommonConfig, LogSettings } from '../../shared/config/common.ts'
import { BLOCKS_BUCKET } from '../../shared/contracts/blocks.ts'
import type { PartitionsRecord } from '../../shared/contracts/member.ts'
import { bootstrap } from '../../shared/membership/bootstrap.ts'
import { natsObjects } from '../../shared/objects/nats-objects.ts'
import type { Log } from '../../shared/telemetry/log.ts'
import { addressOf, connect } from './connect.ts'
import { SetupError } from './setup-error.ts'

/** How long a cluster may take until its servers have found each other, chosen a leader and made a place for every copy. */
const LEADER_MS_MAX = 60_000
const OBJECTS_MS = 10_000

export interface SetUpOptions {
  readonly common: CommonConfig
  readonly logs: LogSettings
  readonly log: Log
  readonly signal: AbortSignal
}

export async function setUpLogs(options: SetUpOptions): Promise<ServerFacts & { readonly partitions: number }> {
  const { common, log, signal } = options
  const bus = await connect({ reach: common, prefix: common.prefix, name: 'setup', log, signal })
  try {
    const { count } = await whileElecting(() => madeLogs(bus, options), options)
    if (common.objects === 'jetstream') await whileElecting(() => madeBucket(options), options)
    return { ...(await bus.server()), partitions: count }
  } catch (error) {
    const hint = error instanceof RefusedError ? '' : '; is there room on the disk for --log-bytes-max × --partitions?'
    throw new SetupError(1, `cannot make the logs: ${textOf(error)}${hint}`, { cause: error })
  } finally {
    await bus.close()
  }
}

/** What was made before a try failed is found by the next one. */
function whileElecting<T>(make: () => Promise<T>, { logs, log, signal }: SetUpOptions): Promise<T> {
  return patiently(make, {
    clock: systemClock,
    withinMs: LEADER_MS_MAX,
    mayPass: ({ code }) => logs.logReplicas > 1 && code !== 'log-no-room' && code !== 'objects-full',
    onFailure: ({ message }) => log.info({ error: message }, 'the logs cannot be made yet'),
    signal,
  })
}

async function madeLogs(bus: Bus, { common, logs }: SetUpOptions): Promise<PartitionsRecord> {
  const { partitions, replicationFactor } = common
  const bucket = await bus.bucket(BLOCKS_BUCKET, { replicas: logs.logReplicas })
  const boundaries = await purgeBoundaries(bucket)
  const originSeqOf = (partition: number) => boundaries.get(partition) ?? 1
  return bootstrap(bus, { partitions, replicationFactor, ...logs, originSeqOf })
}

/** The first bucket of blocks. */
async function madeBucket({ common, logs }: SetUpOptions): Promise<void> {
  const objects = await natsObjects({
    ...addressOf(common),
    prefix: common.prefix,
    name: 'setup objects',
    clock: systemClock,
  })
  try {
    const limits = { replicas: logs.logReplicas, bytesMax: logs.objectsBytesMax }
    await objects.setUp(limits, { timeoutMs: OBJECTS_MS })
  } finally {
    await objects.close()
  }
}
