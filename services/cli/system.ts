// The running system that a command asks: the one on --nats, else that on --data.
import { systemClock } from '../../shared/base/clock.ts'
import { RefusedError, textOf, UnavailableError } from '../../shared/base/errors.ts'
import { ask } from '../../shared/bus/ask.ts'
import type { Bus } from '../../shared/bus/port.ts'
import { type CommonConfig, commonSettings } from '../../shared/config/common.ts'
import type { SettingsSection } from '../../shared/config/help.ts'
import { type ConfigOf, defineSettings, type SettingsTable, text } from '../../shared/config/settings.ts'
import { ring } from '../../shared/contracts/member.ts'
import { createLog } from '../../shared/telemetry/log.ts'
import { connect } from '../launcher/connect.ts'
import { runningServers } from '../launcher/nats-server.ts'
import { SetupError } from '../launcher/setup-error.ts'
import { type Command, type CommandSpec, command, type Outcome } from './command.ts'
import { otherTables, readAll } from './settings.ts'

const CONNECT_MS_MAX = 10_000

/** Where commands find the system that they ask. */
const foundSettings = defineSettings({
  dataDir: text('./data', 'without --nats: the data folder of the running start that is asked', { name: 'data' }),
})

const sections: readonly SettingsSection[] = [
  { title: 'the system that is asked', table: foundSettings },
  { title: 'every actor', table: commonSettings },
]

type SystemSpec<T extends SettingsTable> = Omit<CommandSpec<T, unknown>, 'also' | 'read' | 'run'> & {
  readonly run: (call: { words: readonly string[]; config: ConfigOf<T>; common: CommonConfig }) => Promise<Outcome>
}

/** A command that asks a running system: the one on --nats, else what runs on --data. */
export function systemCommand<T extends SettingsTable>(spec: SystemSpec<T>): Command {
  return command<T, CommonConfig>({
    ...spec,
    also: sections,
    async read(own, argv) {
      const tables = [commonSettings, foundSettings, own] as const
      const [common, { dataDir }, config] = readAll(tables, argv, await otherTables())
      return [config, common.nats === '' ? { ...common, ...runningServers(dataDir) } : common]
    },
    run: ({ context: common, ...rest }) => spec.run({ ...rest, common }),
  })
}

/** Asks each compactor that is well. */
export function eachCompactor<T>(
  common: CommonConfig,
  command: string,
  question: (bus: Bus, id: string) => Promise<T>,
): Promise<readonly T[]> {
  return withBus(common, command, async (bus) => {
    const { members } = await ask(bus, ring, {}, {}, {}).catch((error: unknown) => {
      throw new SetupError(1, `no member answers on ${common.nats} (${textOf(error)})`, { cause: error })
    })
    const ids = members.filter(({ role, isHealthy }) => role === 'compactor' && isHealthy).map(({ id }) => id)
    return Promise.all(ids.map((id) => question(bus, id)))
  })
}

/** Gives an order to whichever compactor takes it. */
export function anyCompactor<T>(common: CommonConfig, command: string, order: (bus: Bus) => Promise<T>): Promise<T> {
  return withBus(common, command, (bus) =>
    order(bus).catch((error: unknown) => {
      throw new SetupError(1, `no compactor took it (${textOf(error)})`, { cause: error })
    }),
  )
}

export const NO_COMPACTOR = 'no compactor runs here: carillon compactor --nats URL starts one\n'

/** `--tenant`, empty: all. */
export const tenantOf = ({ tenant }: { readonly tenant: string }): { tenant?: string } =>
  tenant === '' ? {} : { tenant }

/** Runs `work` on a connection of its own. Throws SetupError when there is no way. */
export async function withBus<T>(common: CommonConfig, command: string, work: (bus: Bus) => Promise<T>): Promise<T> {
  if (common.nats === '')
    throw new SetupError(2, `${command} wants --nats URL (CARILLON_NATS), or --data with the folder of a running start`)
  const log = createLog({ role: command, id: command, level: common.logLevel })
  const late = new SetupError(1, `no connection to ${common.nats} within ${CONNECT_MS_MAX} ms`)
  const giveUp = new AbortController()
  const timer = systemClock.after(CONNECT_MS_MAX, () => giveUp.abort(late))
  try {
    const bus = await connect({ reach: common, prefix: common.prefix, name: command, log, signal: giveUp.signal })
    timer.cancel()
    try {
      return await work(bus)
    } finally {
      await bus.close()
    }
  } catch (error) {
    if (error instanceof RefusedError) throw new SetupError(2, error.message, { cause: error })
    if (error instanceof UnavailableError) throw new SetupError(1, `${error.message}${hintOf(error)}`, { cause: error })
    throw error
  } finally {
    timer.cancel()
  }
}

function hintOf({ message }: UnavailableError): string {
  if (!message.includes('10047')) return ''
  return '; each log reserves as much of the disk as the first one (--log-bytes-max at setup): is there room for the new ones?'
}
