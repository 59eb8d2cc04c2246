// `carillon setup`: makes what has to exist in a nats-server before actors can work on it.
import { type CommonConfig, commonSettings, type LogSettings, logSettings } from '../../shared/config/common.ts'
import { createLog } from '../../shared/telemetry/log.ts'
import { setUpLogs } from '../launcher/set-up-logs.ts'
import { SetupError } from '../launcher/setup-error.ts'
import { command } from './command.ts'
import { otherTables, readAll } from './settings.ts'

export const setupCommand = command({
  name: 'setup',
  usage: '--nats URL [flags]',
  does: 'makes the logs and buckets in the nats-server of --nats, then ends',
  intro: 'Makes the partition logs and buckets. Run it once; `carillon partitions add` makes more logs later.',
  settings: logSettings,
  also: [{ title: 'every actor', table: commonSettings }],
  async read(own, argv): Promise<readonly [LogSettings, CommonConfig]> {
    const [common, logs] = readAll([commonSettings, own], argv, await otherTables())
    if (common.nats === '') throw new SetupError(2, 'setup wants --nats URL (CARILLON_NATS): the nats-server to set up')
    return [logs, common]
  },
  async run({ config: logs, context: common }) {
    const stopping = new AbortController()
    for (const signal of ['SIGINT', 'SIGTERM'] as const)
      process.on(signal, () => stopping.abort(new SetupError(1, 'told to stop')))
    const facts = await setUpLogs({
      common,
      logs,
      log: createLog({ role: 'setup', id: 'setup', level: common.logLevel, format: common.logFormat }),
      signal: stopping.signal,
    })
    const { partitions, durability, durabilityReason } = facts
    return { text: `${partitions} partition logs are there; durability: ${durability} (${durabilityReason})\n` }
  },
})
