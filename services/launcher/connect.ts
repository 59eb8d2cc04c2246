// A connection to NATS for this process: tried again, with a line that says why, until it stands or the process is told to stop.
import { backoffMs } from '../../shared/base/backoff.ts'
import { sleep, systemClock } from '../../shared/base/clock.ts'
import { textOf, UnavailableError } from '../../shared/base/errors.ts'
import { systemRandom } from '../../shared/base/random.ts'
import { connectNats } from '../../shared/bus/nats-bus.ts'
import type { Bus } from '../../shared/bus/port.ts'
import type { Log } from '../../shared/telemetry/log.ts'
import { readSystemUser } from './nats-server.ts'

const retry = { firstMs: 100, maxMs: 5_000 }

export interface ConnectOptions {
  /** Addresses, separated by commas. */
  readonly nats: string
  /** '' when nobody has one. */
  readonly systemUserFile: string
  readonly prefix: string
  readonly name: string
  readonly log: Log
  readonly signal: AbortSignal
}

/** The addresses of `--nats`. */
export const serversOf = (nats: string): string[] => nats.split(',').map((address) => address.trim())

/** Rejects with the signal's reason when that aborts, and with what is no matter of waiting at once. */
export async function connect({ nats, systemUserFile, prefix, name, log, signal }: ConnectOptions): Promise<Bus> {
  const servers = serversOf(nats)
  const system = systemUserFile === '' ? {} : { system: readSystemUser(systemUserFile) }
  const onEvent = (text: string, level: 'debug' | 'info' | 'warn' | 'error') => log[level]({}, text)
  for (let attempt = 0; ; attempt++) {
    signal.throwIfAborted()
    try {
      return await connectNats({ servers, prefix, name, clock: systemClock, onEvent, ...system })
    } catch (error) {
      if (!(error instanceof UnavailableError)) throw error
      const delayMs = Math.round(backoffMs(attempt, retry, systemRandom))
      log.warn({ nats, code: error.code, delayMs }, `no connection to NATS yet: ${textOf(error)}`)
      await sleep(systemClock, delayMs, signal)
    }
  }
}
