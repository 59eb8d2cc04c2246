// The table of commands, in the order in which help lists them. Each is loaded when it is meant, all when somebody asks what there is.
import { nearest } from '../../shared/config/units.ts'
import { SetupError } from '../launcher/setup-error.ts'
import { roleNames, roles } from '../roles.ts'
import { type Command, exitCodes } from './command.ts'

/** How `carillon.mjs` works on the project itself: listed, but not run from here. */
const projectCommands: Readonly<Record<string, string>> = {
  'test, check': "the project's own tests and checks",
  'run FILE': "a TypeScript file on the project's Node",
}

const ofTheSystem: Readonly<Record<string, () => Promise<Command>>> = {
  start: async () => (await import('./start-command.ts')).startCommand,
  cluster: async () => (await import('./start-command.ts')).clusterCommand,
  setup: async () => (await import('./setup-command.ts')).setupCommand,
  ring: async () => (await import('./ring-command.ts')).ringCommand,
  partitions: async () => (await import('./partitions-command.ts')).partitionsCommand,
  mark: async () => (await import('./flush-command.ts')).markCommand,
  flush: async () => (await import('./flush-command.ts')).flushCommand,
  compact: async () => (await import('./compact-command.ts')).compactCommand,
  scrub: async () => (await import('./scrub-command.ts')).scrubCommand,
  blocks: async () => (await import('./block-commands.ts')).blocksCommand,
  delete: async () => (await import('./delete-command.ts')).deleteCommand,
  limits: async () => (await import('./limits-command.ts')).limitsCommand,
  help: async () => helpCommand,
  version: async () => (await import('./version-command.ts')).versionCommand,
}

const ofRoles = roleNames.map((name): [string, () => Promise<Command>] => [
  name,
  async () => (await import('./actor-command.ts')).actorCommand(name),
])

/** Of the table itself, so it stands beside it. */
const helpCommand: Command = {
  name: 'help',
  does: 'help COMMAND: the flags of a command; as carillon COMMAND --help',
  help: () => listed(),
  async run([name, ...rest]) {
    if (rest.length > 0) throw new SetupError(2, `help wants one command, not "${[name, ...rest].join(' ')}"`)
    process.stdout.write(await (name === undefined ? listed() : (await commandNamed(name)).help()))
    return 0
  },
}

const commands: Readonly<Record<string, () => Promise<Command>>> = {
  ...ofTheSystem,
  ...Object.fromEntries(ofRoles),
}

/** Throws SetupError where there is none, with what was probably meant. */
export async function commandNamed(name: string): Promise<Command> {
  const load = Object.hasOwn(commands, name) ? commands[name] : undefined
  if (load !== undefined) return load()
  const words = Object.keys(projectCommands).flatMap((listed) => listed.match(/\b[a-z]+\b/g) ?? [])
  const near = nearest(name, [...Object.keys(commands), ...words])
  const hint = near === undefined ? '' : `; did you mean ${near}?`
  throw new SetupError(2, `there is no command "${name}"${hint}\n\n${await commandsText()}`)
}

async function listed(): Promise<string> {
  return `Usage: ${await commandsText()}\n\n${exitCodes}\n`
}

async function commandsText(): Promise<string> {
  const loaded = await Promise.all(Object.values(ofTheSystem).map((load) => load()))
  const rows = [
    ...loaded.map(({ name, does }) => [name, does]),
    ...roleNames.map((name) => [name, roles[name].does]),
    ...Object.entries(projectCommands),
  ]
  const lines = rows.map(([name = '', does = '']) => `  ${name.padEnd(14)}${does}`)
  return `carillon <command> [flags]\n\nCommands:\n${lines.join('\n')}\n\ncarillon <command> --help tells the flags of a command.`
}
