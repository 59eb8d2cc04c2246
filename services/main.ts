// carillon <command>: the composition root, the only file that sees every service. Loads what the command needs, and no more.
import fs from 'node:fs'
import { RefusedError, textOf } from '../shared/base/errors.ts'
import { beatFaults, type CommonConfig, commonSettings, logSettings } from '../shared/config/common.ts'
import { helpText, type SettingsSection } from '../shared/config/help.ts'
import { faultsText, readSettings } from '../shared/config/read.ts'
import { type ConfigOf, flagName, type SettingsTable, toFlags, withDefaults } from '../shared/config/settings.ts'
import { nearest } from '../shared/config/units.ts'
import type { Role } from '../shared/contracts/member.ts'
import {
  compactSettings,
  flushSettings,
  foundSettings,
  launcherSettings,
  limitsSettings,
  partitionsSettings,
  ringSettings,
  scrubSettings,
} from './launcher/config.ts'
import { GatewayError } from './launcher/gateway-client.ts'
import { SetupError } from './launcher/setup-error.ts'
import type { LaunchedRole } from './launcher/start.ts'
import { countSettings, roleNames, roles } from './roles.ts'

const exitCodes = `Exit codes: 0 stopped as asked; 1 cannot start or go on; 2 wrong settings, or no nats-server to be had; 70 a bug.`

const commandsText = `carillon <command> [flags]

Commands:
  start         the whole system on this machine: a nats-server and one process per actor
  cluster       the same on three nats-servers, with three copies of everything in three zones
  setup         makes the logs and buckets in the nats-server of --nats, then ends
  ring          who is here and who owns what, in the system on --nats
  partitions    partitions add N: more partition logs for a running system
  mark, flush   opens the next segments of a running system; brings the ones before into blocks
  compact       compact --status, compact --now: how far the merging of blocks is, or do it now
  scrub         scrub --status, scrub --now: read everything that is stored, name and repair what is damaged
  blocks        blocks {list,inspect,download,verify,upload}: the blocks of a tenant, over a gateway
  delete        delete {preview,series,tenant,list,undo}: samples of a tenant, over a gateway
  limits        limits {get,set,history}: what one tenant may do, or all; holds at once
${Object.entries(roles)
  .map(([name, { does }]) => `  ${name.padEnd(14)}${does}`)
  .join('\n')}
  test, check   the project's own tests and checks
  run FILE      a TypeScript file on the project's Node

carillon <command> --help tells the flags of a command.`

interface Command {
  readonly help: () => string | Promise<string>
  /** Resolves with the exit code. */
  readonly run: (args: readonly string[]) => Promise<number>
}

const commands: Readonly<Record<string, Command>> = {
  start: { help: () => startHelp('start'), run: (args) => startAll('start', args) },
  cluster: { help: () => startHelp('cluster'), run: (args) => startAll('cluster', args) },
  setup: { help: setupHelp, run: setUp },
  ring: { help: ringHelp, run: showRing },
  partitions: { help: partitionsHelp, run: changePartitions },
  mark: { help: () => flushHelp('mark'), run: (args) => flushBlocks('mark', args) },
  flush: { help: () => flushHelp('flush'), run: (args) => flushBlocks('flush', args) },
  compact: { help: compactHelp, run: compact },
  scrub: { help: scrubHelp, run: scrub },
  blocks: { help: blocksHelp, run: blocks },
  delete: { help: deleteHelp, run: deletion },
  limits: { help: limitsHelp, run: limits },
  ...Object.fromEntries(
    roleNames.map((name): [string, Command] => [
      name,
      { help: () => roleHelp(name), run: (args) => startOne(name, args) },
    ]),
  ),
}

/** Runs one command line and resolves with the exit code. */
export async function main(argv: readonly string[]): Promise<number> {
  const [first = '--help', ...rest] = argv
  try {
    if (first === '--help' || first === '-h' || (first === 'help' && rest[0] === undefined))
      return print(`Usage: ${commandsText}\n\n${exitCodes}\n`)
    if (first === '--version') return print(`${(await import('./launcher/actor-process.ts')).projectVersion()}\n`)
    const [name, args] = first === 'help' ? [rest[0] ?? '', ['--help']] : [first, rest]
    const wantsHelp = args.includes('--help') || args.includes('-h')
    const command = Object.hasOwn(commands, name) ? commands[name] : undefined
    if (command !== undefined) return wantsHelp ? print(await command.help()) : await command.run(args)
    const near = nearest(name, [...Object.keys(commands), 'test', 'check', 'run'])
    const hint = near === undefined ? '' : `; did you mean ${near}?`
    throw new SetupError(2, `there is no command "${name}"${hint}\n\n${commandsText}`)
  } catch (error) {
    if (error instanceof SetupError) return complain(error.message, error.exitCode)
    if (error instanceof GatewayError) return complain(error.textWithId(), 1)
    if (error instanceof RefusedError) return complain(error.message, 2)
    if (error instanceof Error && 'syscall' in error) return complain(error.message, 1) // a file, a disk, a socket
    process.stderr.write(`carillon: a bug: ${error instanceof Error ? error.stack : textOf(error)}\n`)
    return 70
  }
}

/** What `start` and `cluster` read, and where the two differ. */
const shapes = {
  start: { launcher: { ...launcherSettings, ...countSettings.start }, common: commonSettings, logs: logSettings },
  cluster: {
    launcher: { ...launcherSettings, ...countSettings.cluster },
    common: withDefaults(commonSettings, { replicationFactor: 3 }),
    logs: withDefaults(logSettings, { logReplicas: 3 }),
  },
}

async function startAll(command: 'start' | 'cluster', argv: readonly string[]): Promise<number> {
  const shape = shapes[command]
  const tables = await Promise.all(roleNames.map((name) => roles[name].settings()))
  const [launcher, common, logs, ...services] = read(
    [shape.launcher, shape.common, shape.logs, ...tables] as const,
    argv,
    [],
  )
  const commonFlags = toFlags(commonSettings, { ...common, nats: '', natsUserFile: '', natsSystemFile: '', id: '' })
  const launched = roleNames.map(async (role, index): Promise<LaunchedRole> => {
    const { plural, duty, listens, process } = roles[role]
    const [table, config] = [tables[index] ?? {}, services[index] ?? {}]
    return {
      role,
      count: (launcher as Readonly<Record<string, unknown>>)[plural] as number,
      listen: listens ? (config as { listen: string }).listen : '',
      isNeeded: listens || duty !== undefined,
      process: (await process?.())?.(config as never) ?? {},
      flags: [...new Set([...commonFlags, ...toFlags(table, config)])],
    }
  })
  const { queryTimeoutMs } = services[roleNames.indexOf('querier')] as { queryTimeoutMs: number }
  const [{ start }, { clusterZones, noZone }] = await Promise.all([
    import('./launcher/start.ts'),
    import('./launcher/nats-server.ts'),
  ])
  const shared = { launcher, common, logs, queryTimeoutMs, roles: await Promise.all(launched) }
  if (command === 'start') return start({ ...shared, zones: [noZone] })
  if (common.nats !== '')
    throw new SetupError(2, 'cluster runs nats-servers of its own: leave --nats out, or use start --nats URL')
  return start({ ...shared, zones: clusterZones })
}

async function startOne(name: Role, argv: readonly string[]): Promise<number> {
  const table = await roles[name].settings()
  const [common, own] = read([commonSettings, table], argv, await otherTables(name))
  const [make, { runActorProcess }] = await Promise.all([roles[name].make(), import('./launcher/actor-process.ts')])
  const config = Object.freeze({ ...common, ...own }) as never
  return runActorProcess({ role: name, common, make: (deps) => make({ ...deps, config }) })
}

async function setUp(argv: readonly string[]): Promise<number> {
  const [common, logs] = read([commonSettings, logSettings], argv, await otherTables())
  if (common.nats === '') throw new SetupError(2, 'setup wants --nats URL (CARILLON_NATS): the nats-server to set up')
  const [{ setUpLogs }, { createLog }] = await Promise.all([
    import('./launcher/set-up-logs.ts'),
    import('../shared/telemetry/log.ts'),
  ])
  const stopping = new AbortController()
  for (const signal of ['SIGINT', 'SIGTERM'] as const)
    process.on(signal, () => stopping.abort(new SetupError(1, 'told to stop')))
  const facts = await setUpLogs({
    common,
    logs,
    log: createLog({ role: 'setup', id: 'setup', level: common.logLevel }),
    signal: stopping.signal,
  })
  return print(
    `${facts.partitions} partition logs are there; durability: ${facts.durability} (${facts.durabilityReason})\n`,
  )
}

async function showRing(argv: readonly string[]): Promise<number> {
  const [common, { output }] = await readAsked(ringSettings, argv)
  const { askRing, ringText } = await import('./launcher/ring-commands.ts')
  const reply = await askRing(common)
  return print(output === 'json' ? `${JSON.stringify(reply)}\n` : ringText(reply))
}

async function compact(argv: readonly string[]): Promise<number> {
  const [common, config] = await readAsked(compactSettings, argv)
  if (config.status === config.now)
    throw new SetupError(2, 'compact wants --status or --now, such as: carillon compact --status --nats URL')
  const { compactNowText, compactionText } = await import('./launcher/compact-command.ts')
  return print(config.now ? await compactNowText(common, config) : await compactionText(common, config))
}

async function scrub(argv: readonly string[]): Promise<number> {
  const [common, config] = await readAsked(scrubSettings, argv)
  if (config.status === config.now)
    throw new SetupError(2, 'scrub wants --status or --now, such as: carillon scrub --status --nats URL')
  const { scrubNowText, scrubStatusText } = await import('./launcher/scrub-command.ts')
  const { text, exitCode } = config.now ? await scrubNowText(common, config) : await scrubStatusText(common, config)
  process.stdout.write(text)
  return exitCode
}

async function blocks([verb = '', ...args]: readonly string[]): Promise<number> {
  const { blockSettings, runBlocks } = await import('./launcher/block-commands.ts')
  const { flags, operands } = parted(blockSettings, args)
  const [config] = read([blockSettings], flags, [commonSettings, ...(await otherTables())])
  const { text, exitCode } = await runBlocks(verb, operands, config)
  process.stdout.write(text)
  return exitCode
}

async function deletion([verb = '', ...args]: readonly string[]): Promise<number> {
  const { deleteSettings, runDelete } = await import('./launcher/delete-command.ts')
  const { flags, operands } = parted(deleteSettings, args)
  const [config] = read([deleteSettings], flags, [commonSettings, ...(await otherTables())])
  return print(await runDelete(verb, operands, config))
}

/** Flags with their values, and what stands between them. */
function parted(table: SettingsTable, argv: readonly string[]): { flags: string[]; operands: string[] } {
  const isSwitch = (name: string) =>
    Object.entries(table).some(([key, setting]) => setting.kind === 'flag' && flagName(key, setting) === name)
  const flags: string[] = []
  const operands: string[] = []
  for (let index = 0; index < argv.length; index++) {
    const argument = argv[index]!
    if (!argument.startsWith('--')) operands.push(argument)
    else {
      flags.push(argument)
      const next = argv[index + 1]
      if (argument.includes('=') || isSwitch(argument.slice(2)) || next === undefined) continue
      flags.push(next)
      index++
    }
  }
  return { flags, operands }
}

async function limits([verb, ...rest]: readonly string[]): Promise<number> {
  if (verb !== 'get' && verb !== 'set' && verb !== 'history')
    throw new SetupError(2, 'limits wants get, set or history, such as: carillon limits get --tenant acme --nats URL')
  const { flags, operands: changes } = parted({ ...commonSettings, ...foundSettings, ...limitsSettings }, rest)
  const [common, config] = await readAsked(limitsSettings, flags)
  const { limitsText } = await import('./launcher/limits-command.ts')
  return print(await limitsText(verb, changes, common, config))
}

async function changePartitions([verb, count, ...argv]: readonly string[]): Promise<number> {
  const more = Number(count)
  if (verb !== 'add' || !Number.isInteger(more) || more < 1)
    throw new SetupError(2, `partitions wants "add" and how many more, such as: carillon partitions add 2 --nats URL`)
  const [common, { waitMs }] = await readAsked(partitionsSettings, argv)
  const { addOnline } = await import('./launcher/ring-commands.ts')
  const record = await addOnline(common, { more, waitMs })
  return print(`${record.count} partitions take series\n`)
}

async function flushBlocks(kind: 'mark' | 'flush', argv: readonly string[]): Promise<number> {
  const [common, { waitMs }] = await readAsked(flushSettings, argv)
  const { askFlush, flushText } = await import('./launcher/ring-commands.ts')
  const outcome = await askFlush(common, { kind, waitMs })
  print(flushText(outcome))
  return outcome.isDone ? 0 : 1
}

// ---- settings ----

/** All sections, for the documents. */
export async function settingsSections(
  shape: (typeof shapes)['start' | 'cluster'] = shapes.start,
): Promise<readonly SettingsSection[]> {
  const services = await Promise.all(
    Object.entries(roles).map(async ([name, { settings }]) => ({ title: name, table: await settings() })),
  )
  return [
    { title: 'start', table: shape.launcher },
    { title: 'every actor', table: shape.common },
    { title: 'logs', table: shape.logs },
    ...services,
  ]
}

/** Their keys may stand in the same config file. */
async function otherTables(name?: Role): Promise<readonly SettingsTable[]> {
  const others = Object.entries(roles).filter(([other]) => other !== name)
  return [shapes.start.launcher, logSettings, ...(await Promise.all(others.map(([, { settings }]) => settings())))]
}

function read<const T extends readonly SettingsTable[]>(
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

/** Settings of a command that asks a running system: the one on --nats, else what runs on --data. */
async function readAsked<T extends SettingsTable>(
  own: T,
  argv: readonly string[],
): Promise<readonly [CommonConfig, ConfigOf<T>]> {
  const [common, { dataDir }, config] = read([commonSettings, foundSettings, own] as const, argv, await otherTables())
  if (common.nats !== '') return [common, config]
  const { runningServers } = await import('./launcher/nats-server.ts')
  return [{ ...common, ...runningServers(dataDir) }, config]
}

const everyActor: SettingsSection = { title: 'every actor', table: commonSettings }
const foundSystem: SettingsSection = { title: 'the system that is asked', table: foundSettings }

async function startHelp(command: 'start' | 'cluster'): Promise<string> {
  const isCluster = command === 'cluster'
  const servers = isCluster ? 'three nats-servers and all actors, in three zones,' : 'a nats-server and all actors'
  return helpText({
    usage: `carillon ${command} [flags]     (npm ${isCluster ? 'run cluster' : 'start'} -- [flags])`,
    intro: `Runs ${servers} on this machine. The flags of the actors are passed on to them.`,
    sections: await settingsSections(shapes[command]),
    after: exitCodes,
  })
}

async function roleHelp(name: Role): Promise<string> {
  return helpText({
    usage: `carillon ${name} --nats URL [flags]`,
    intro: `Runs one ${name}: ${roles[name].does}. Start as many as you like, on as many machines, on one NATS.`,
    sections: [{ title: name, table: await roles[name].settings() }, everyActor],
    after: exitCodes,
  })
}

function setupHelp(): string {
  return helpText({
    usage: 'carillon setup --nats URL [flags]',
    intro: 'Makes the partition logs and buckets. Run it once; `carillon partitions add` makes more logs later.',
    sections: [{ title: 'setup', table: logSettings }, everyActor],
    after: exitCodes,
  })
}

function ringHelp(): string {
  return helpText({
    usage: 'carillon ring [flags]',
    intro: 'Shows the members of a running system, and the owners of each partition.',
    sections: [{ title: 'ring', table: ringSettings }, foundSystem, everyActor],
    after: exitCodes,
  })
}

async function blocksHelp(): Promise<string> {
  const { blockSettings, blockVerbs } = await import('./launcher/block-commands.ts')
  return helpText({
    usage: 'carillon blocks {list|inspect|download|verify|upload} [DIR|ULID] [flags]',
    intro: `Works on the blocks of one tenant, over a gateway.\n  ${Object.values(blockVerbs).join('\n  ')}`,
    sections: [{ title: 'blocks', table: blockSettings }],
    after: exitCodes,
  })
}

async function deleteHelp(): Promise<string> {
  const { deleteSettings, deleteVerbs } = await import('./launcher/delete-command.ts')
  return helpText({
    usage: 'carillon delete {preview|series|tenant|list|undo} [SELECTOR …|ID] --tenant NAME [flags]',
    intro: `Deletes samples of one tenant, over a gateway.\n  ${deleteVerbs.join('\n  ')}`,
    sections: [{ title: 'delete', table: deleteSettings }],
    after: exitCodes,
  })
}

function compactHelp(): string {
  return helpText({
    usage: 'carillon compact --status|--now --nats URL [flags]',
    intro: 'Shows what the compactors of a running system do and did, or has them merge blocks now.',
    sections: [{ title: 'compact', table: compactSettings }, foundSystem, everyActor],
    after: exitCodes,
  })
}

function limitsHelp(): string {
  return helpText({
    usage: 'carillon limits {get|set|history} [NAME=VALUE …] --nats URL [flags]',
    intro: 'Shows and changes what one tenant may do, in a running system. NAME= without a value takes a limit away.',
    sections: [{ title: 'limits', table: limitsSettings }, foundSystem, everyActor],
    after: exitCodes,
  })
}

function scrubHelp(): string {
  return helpText({
    usage: 'carillon scrub --status|--now --nats URL [flags]',
    intro:
      'Reads everything that is stored and repairs what it can, or shows what was found. Exit code 1: something is damaged.',
    sections: [{ title: 'scrub', table: scrubSettings }, foundSystem, everyActor],
    after: exitCodes,
  })
}

function flushHelp(kind: 'mark' | 'flush'): string {
  const what = kind === 'mark' ? 'Opens the next segment' : 'Brings what was written so far into blocks'
  return helpText({
    usage: `carillon ${kind} --nats URL [flags]`,
    intro: `${what} in every partition, as soon as the ingesters' segment-min allows.`,
    sections: [{ title: kind, table: flushSettings }, foundSystem, everyActor],
    after: exitCodes,
  })
}

function partitionsHelp(): string {
  return helpText({
    usage: 'carillon partitions add N --nats URL [flags]',
    intro:
      'Adds N partition logs to a running system, as large as the first one and with as many copies. They are read at once, and take series when all members know them.',
    sections: [{ title: 'partitions', table: partitionsSettings }, foundSystem, everyActor],
    after: exitCodes,
  })
}

// ---- words ----

function print(text: string): number {
  process.stdout.write(text)
  return 0
}

function complain(text: string, exitCode: number): number {
  process.stderr.write(`carillon: ${text}\n`)
  return exitCode
}

if (import.meta.main) process.exit(await main(process.argv.slice(2)))
