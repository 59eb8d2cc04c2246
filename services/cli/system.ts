// The running system that a command asks, and the way to it: the gateway at --gateway; else the nats-servers at --nats; else what runs on
// --data, by its nats-servers; else the gateway where one usually is.
import { systemClock } from '../../shared/base/clock.ts'
import { RefusedError, textOf, UnavailableError } from '../../shared/base/errors.ts'
import { ask } from '../../shared/bus/ask.ts'
import type { Question } from '../../shared/bus/contract.ts'
import type { Bus } from '../../shared/bus/port.ts'
import { commonSettings } from '../../shared/config/common.ts'
import type { SettingsSection } from '../../shared/config/help.ts'
import { type ConfigOf, defineSettings, type SettingsTable, text } from '../../shared/config/settings.ts'
import { ring } from '../../shared/contracts/member.ts'
import { askMembers } from '../../shared/membership/ask-members.ts'
import { silentLog } from '../../shared/telemetry/log.ts'
import { connect } from '../launcher/connect.ts'
import { runningAddress } from '../launcher/data-folder.ts'
import { runningServers } from '../launcher/nats-server.ts'
import { SetupError } from '../launcher/setup-error.ts'
import { type Command, type CommandSpec, command, type Outcome } from './command.ts'
import { DEFAULT_GATEWAY, GatewayClient, type GatewayOptions } from './gateway-client.ts'
import { otherTables, readAll } from './settings.ts'

const CONNECT_MS_MAX = 10_000

const gatewaySettings = defineSettings({
  gateway: text('', `address of a gateway; without it that of the system on --data, else ${DEFAULT_GATEWAY}`),
  credentialsFile: text('', 'file with "user:password" or a token, where the gateway asks for one'),
  dataDir: text('./data', 'data folder of the running start that is asked when no address is given', { name: 'data' }),
})

const { nats, natsUserFile, natsSystemFile, prefix } = commonSettings
const natsSettings = defineSettings({ nats, natsUserFile, natsSystemFile, prefix })

type GatewayConfig = ConfigOf<typeof gatewaySettings> & Pick<GatewayOptions, 'isGuess'>
type NatsConfig = ConfigOf<typeof natsSettings>

/** The one way that leads there. */
export interface System {
  ask<T>(ways: {
    readonly http: (client: GatewayClient) => Promise<T>
    readonly nats: (bus: Bus) => Promise<T>
  }): Promise<T>
}

type SpecOf<T extends SettingsTable, C> = Omit<CommandSpec<T, unknown>, 'also' | 'read' | 'run'> & {
  readonly run: (call: { words: readonly string[]; config: ConfigOf<T> } & C) => Promise<Outcome>
}

/** A command that asks a running system, over a gateway or over NATS. */
export function systemCommand<T extends SettingsTable>(spec: SpecOf<T, { readonly system: System }>): Command {
  return command<T, System>({
    ...spec,
    also: [gatewaySection, { title: 'where no gateway runs', table: natsSettings }],
    async read(own, argv) {
      const tables = [gatewaySettings, natsSettings, own] as const
      const [door, reach, config] = readAll(tables, argv, [commonSettings, ...(await otherTables())])
      return [config, systemOf(spec.name, door, reach)]
    },
    run: ({ context: system, ...rest }) => spec.run({ ...rest, system }),
  })
}

/** A command that a gateway alone can answer. */
export function gatewayCommand<T extends SettingsTable>(spec: SpecOf<T, { readonly door: GatewayConfig }>): Command {
  return command<T, GatewayConfig>({
    ...spec,
    also: [gatewaySection],
    async read(own, argv) {
      const [door, config] = readAll([gatewaySettings, own] as const, argv, [commonSettings, ...(await otherTables())])
      const known = door.gateway || runningAddress(door.dataDir)
      return [config, { ...door, gateway: known || DEFAULT_GATEWAY, isGuess: known === '' }]
    },
    run: ({ context: door, ...rest }) => spec.run({ ...rest, door }),
  })
}

const gatewaySection: SettingsSection = { title: 'the system that is asked', table: gatewaySettings }

function systemOf(name: string, door: GatewayConfig, given: NatsConfig): System {
  const local = door.gateway === '' && given.nats === '' ? runningServers(door.dataDir) : undefined
  const reach = { ...given, ...local }
  if (door.gateway !== '' || reach.nats === '') {
    const client = new GatewayClient({
      ...door,
      gateway: door.gateway || DEFAULT_GATEWAY,
      isGuess: door.gateway === '',
      tenant: '',
    })
    return { ask: ({ http }) => http(client) }
  }
  return { ask: ({ nats }) => withBus(reach, name, nats) }
}

/** Asks each compactor that is well; all of them must answer. */
export async function eachCompactor<Req, Reply>(
  bus: Bus,
  contract: Question<'id', Req, Reply>,
  request: Req,
): Promise<readonly Reply[]> {
  const { members } = await ask(bus, ring, {}, {}, {}).catch((error: unknown) => {
    throw new SetupError(1, `no member answers (${textOf(error)})`, { cause: error })
  })
  const compactors = members.filter(({ role, isHealthy }) => role === 'compactor' && isHealthy)
  const { answers, failures } = await askMembers(bus, compactors, contract, request)
  if (failures[0] !== undefined) throw failures[0].error
  return answers.map(({ reply }) => reply)
}

/** What is said of an order that no compactor took. */
export function nobodyTook(error: unknown): never {
  throw new SetupError(1, `no compactor took it (${textOf(error)})`, { cause: error })
}

export const NO_COMPACTOR = 'no compactor runs here: carillon compactor --nats URL starts one\n'

/** `--tenant`, empty: all. */
export const tenantOf = ({ tenant }: { readonly tenant: string }): { tenant?: string } =>
  tenant === '' ? {} : { tenant }

/** The same as the end of a path. */
export const tenantQuery = ({ tenant }: { readonly tenant: string }): string =>
  tenant === '' ? '' : `?tenant=${encodeURIComponent(tenant)}`

/** Runs `work` on a connection of its own. Throws SetupError when there is no way. */
async function withBus<T>(reach: NatsConfig, name: string, work: (bus: Bus) => Promise<T>): Promise<T> {
  let reason = ''
  const warn = (_: object, text: string) => {
    reason = `: ${text}`
  }
  const giveUp = new AbortController()
  const timer = systemClock.after(CONNECT_MS_MAX, () =>
    giveUp.abort(new SetupError(1, `no connection to ${reach.nats} within ${CONNECT_MS_MAX} ms${reason}`)),
  )
  try {
    const bus = await connect({ reach, prefix: reach.prefix, name, log: { ...silentLog, warn }, signal: giveUp.signal })
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
