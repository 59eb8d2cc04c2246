// Reading the settings of a command, and all settings there are.
import fs from 'node:fs'
import { beatFaults, type CommonConfig, commonSettings, logSettings } from '../../shared/config/common.ts'
import type { SettingsSection } from '../../shared/config/help.ts'
import { faultsText, readSettings } from '../../shared/config/read.ts'
import { type ConfigOf, type SettingsTable, withDefaults } from '../../shared/config/settings.ts'
import type { Role } from '../../shared/contracts/member.ts'
import { launcherSettings } from '../launcher/config.ts'
import { SetupError } from '../launcher/setup-error.ts'
import { countSettings, roleNames, roles } from '../roles.ts'

/** What `start` and `cluster` read, and where the two differ. */
export const shapes = {
  start: { launcher: { ...launcherSettings, ...countSettings.start }, common: commonSettings, logs: logSettings },
  cluster: {
    launcher: { ...launcherSettings, ...countSettings.cluster },
    common: withDefaults(commonSettings, { replicationFactor: 3 }),
    logs: withDefaults(logSettings, { logReplicas: 3 }),
  },
}

/** All sections, for the documents. */
export async function settingsSections(shape: keyof typeof shapes = 'start'): Promise<readonly SettingsSection[]> {
  const services = roleNames.map(async (name) => ({ title: name, table: await roles[name].settings() }))
  const { launcher, common, logs } = shapes[shape]
  return [
    { title: 'start', table: launcher },
    { title: 'every actor', table: common },
    { title: 'logs', table: logs },
    ...(await Promise.all(services)),
  ]
}

/** Their keys may stand in the same config file. */
export async function otherTables(name?: Role): Promise<readonly SettingsTable[]> {
  const others = roleNames.filter((other) => other !== name).map((other) => roles[other].settings())
  return [shapes.start.launcher, logSettings, ...(await Promise.all(others))]
}

/** Throws SetupError with all that is wrong. */
export function readAll<const T extends readonly SettingsTable[]>(
  tables: T,
  argv: readonly string[],
  alsoKnown: readonly SettingsTable[],
): { readonly [I in keyof T]: ConfigOf<T[I]> } {
  const readFile = (path: string) => fs.readFileSync(path, 'utf8')
  const { configs, faults, warnings } = readSettings(tables, argv, process.env, readFile, { alsoKnown })
  for (const warning of warnings) process.stderr.write(`carillon: ${warning}\n`)
  const unsound = configs.flatMap((config) => ('unhealthyAfterMs' in config ? beatFaults(config as CommonConfig) : []))
  if (faults.length + unsound.length > 0) throw new SetupError(2, faultsText([...faults, ...unsound]))
  return configs
}
