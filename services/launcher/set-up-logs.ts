// Waits for NATS, makes the streams and buckets that actors expect, and asks how durable the server is.
import { RefusedError, textOf } from '../../shared/base/errors.ts'
import type { ServerFacts } from '../../shared/bus/port.ts'
import type { CommonConfig, LogSettings } from '../../shared/config/common.ts'
import { bootstrap } from '../../shared/membership/bootstrap.ts'
import type { Log } from '../../shared/telemetry/log.ts'
import { connect } from './connect.ts'
import { SetupError } from './setup-error.ts'

export interface SetUpOptions {
  readonly nats: string
  readonly systemUserFile: string
  readonly common: CommonConfig
  readonly logs: LogSettings
  readonly log: Log
  readonly signal: AbortSignal
}

export async function setUpLogs({
  nats,
  systemUserFile,
  common,
  logs,
  log,
  signal,
}: SetUpOptions): Promise<ServerFacts & { readonly partitions: number }> {
  const bus = await connect({ nats, systemUserFile, prefix: common.prefix, name: 'setup', log, signal })
  try {
    const { count } = await bootstrap(bus, {
      partitions: common.partitions,
      replicationFactor: common.replicationFactor,
      logBytesMax: logs.logBytesMax,
      logReplicas: logs.logReplicas,
    })
    return { ...(await bus.server()), partitions: count }
  } catch (error) {
    const hint = error instanceof RefusedError ? '' : '; is there room on the disk for --log-bytes-max × --partitions?'
    throw new SetupError(1, `cannot make the logs: ${textOf(error)}${hint}`, { cause: error })
  } finally {
    await bus.close()
  }
}
