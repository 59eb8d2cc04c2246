// A connection to NATS for this process: tried again, with a line that says why, until it stands or the process is told to stop.
import { backoffMs } from '../../shared/base/backoff.ts'
import { sleep, systemClock } from '../../shared/base/clock.ts'
import { textOf, UnavailableError } from '../../shared/base/errors.ts'
import { systemRandom } from '../../shared/base/random.ts'
import { connectNats } from '../../shared/bus/nats/nats-bus.ts'
import type { Bus } from '../../shared/bus/port.ts'
import type { CommonConfig } from '../../shared/config/common.ts'
import type { Log } from '../../shared/telemetry/log.ts'
import { type NatsUser, readUserFile } from './nats-server.ts'

const retry = { firstMs: 100, maxMs: 5_000 }

/** Addresses, separated by commas, and the files of users; '' where there is none. */
export type NatsReach = Pick<CommonConfig, 'nats' | 'natsUserFile' | 'natsSystemFile'>

export interface ConnectOptions {
  readonly reach: NatsReach
  readonly prefix: string
  readonly name: string
  readonly log: Log
  readonly signal: AbortSignal
}

/** The addresses of `--nats`, and who we are there. */
export function addressOf({ nats, natsUserFile }: NatsReach): { servers: string[] } & Partial<NatsUser> {
  const servers = nats.split(',').map((address) => address.trim())
  return { servers, ...(natsUserFile !== '' && readUserFile(natsUserFile)) }
}

/** Rejects with the signal's reason when that aborts, and with what is no matter of waiting at once. */
export async function connect({ reach, prefix, name, log, signal }: ConnectOptions): Promise<Bus> {
  const address = addressOf(reach)
  const system = reach.natsSystemFile === '' ? {} : { system: readUserFile(reach.natsSystemFile) }
  const onEvent = (text: string, level: 'debug' | 'info' | 'warn' | 'error') => log[level]({}, text)
  for (let attempt = 0; ; attempt++) {
    signal.throwIfAborted()
    try {
      return await connectNats({ ...address, prefix, name, clock: systemClock, onEvent, ...system })
    } catch (error) {
      if (!(error instanceof UnavailableError)) throw error
      const delayMs = Math.round(backoffMs(attempt, retry, systemRandom))
      const hint = /authorization violation/i.test(error.message) ? '; --nats-user-file names who may' : ''
      log.warn({ nats: reach.nats, code: error.code, delayMs }, `no connection to NATS yet: ${textOf(error)}${hint}`)
      await sleep(systemClock, delayMs, signal)
    }
  }
}
