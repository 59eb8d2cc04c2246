// `carillon start` and `carillon cluster`: the whole system on this machine.
import { commonSettings } from '../../shared/config/common.ts'
import { helpText } from '../../shared/config/help.ts'
import { toFlags } from '../../shared/config/settings.ts'
import type { Role } from '../../shared/contracts/member.ts'
import { SetupError } from '../launcher/setup-error.ts'
import type { LaunchedRole } from '../launcher/start.ts'
import { roleNames, roles } from '../roles.ts'
import { type Command, exitCodes } from './command.ts'
import { readAll, settingsSections, shapes } from './settings.ts'

export const startCommand: Command = {
  name: 'start',
  does: 'the whole system on this machine: a nats-server and one process per actor',
  help: async () =>
    helpText({
      usage: 'carillon start [flags]     (npm start -- [flags])',
      intro: 'Runs a nats-server and all actors on this machine. The flags of the actors are passed on to them.',
      sections: await settingsSections('start'),
      after: exitCodes,
    }),
  run: (argv) => startAll('start', argv),
}

export const clusterCommand: Command = {
  name: 'cluster',
  does: 'the same on three nats-servers, with three copies of everything in three zones',
  help: async () =>
    helpText({
      usage: 'carillon cluster [flags]     (npm run cluster -- [flags])',
      intro:
        'Runs three nats-servers and all actors, in three zones, on this machine. The flags of the actors are passed on to them.',
      sections: await settingsSections('cluster'),
      after: exitCodes,
    }),
  run: (argv) => startAll('cluster', argv),
}

async function startAll(name: 'start' | 'cluster', argv: readonly string[]): Promise<number> {
  const shape = shapes[name]
  const tables = await Promise.all(roleNames.map((role) => roles[role].settings()))
  const [launcher, common, logs, ...configs] = readAll(
    [shape.launcher, shape.common, shape.logs, ...tables] as const,
    argv,
    [],
  )
  const countOf = (role: Role) => (launcher as Readonly<Record<string, unknown>>)[roles[role].plural] as number
  for (const [index, role] of roleNames.entries())
    if (countOf(role) > 0)
      await (await roles[role].check?.())?.(Object.freeze({ ...common, ...configs[index] }) as never)
  const commonFlags = toFlags(commonSettings, { ...common, nats: '', natsUserFile: '', natsSystemFile: '', id: '' })
  const launched = roleNames.map(async (role, index): Promise<LaunchedRole> => {
    const { duty, listens, process } = roles[role]
    const [table, config] = [tables[index] ?? {}, configs[index] ?? {}]
    return {
      role,
      count: countOf(role),
      listen: listens ? (config as { listen: string }).listen : '',
      isNeeded: listens || duty !== undefined,
      process: (await process?.())?.(config as never) ?? {},
      flags: [...new Set([...commonFlags, ...toFlags(table, config)])],
    }
  })
  const { queryTimeoutMs } = configs[roleNames.indexOf('querier')] as { queryTimeoutMs: number }
  const [{ start }, { clusterZones, noZone }] = await Promise.all([
    import('../launcher/start.ts'),
    import('../launcher/nats-server.ts'),
  ])
  const shared = { launcher, common, logs, queryTimeoutMs, roles: await Promise.all(launched) }
  if (name === 'start') return start({ ...shared, zones: [noZone] })
  if (common.nats !== '')
    throw new SetupError(2, 'cluster runs nats-servers of its own: leave --nats out, or use start --nats URL')
  return start({ ...shared, zones: clusterZones })
}
