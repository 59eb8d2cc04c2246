// The table of commands, in the order in which help lists them. Each is loaded when it is meant, all when somebody asks what there is.
import { roleNames, roles } from '../roles.ts'
import type { Command } from './command.ts'

/** How `carillon.mjs` works on the project itself: listed, but not run from here. */
export const projectCommands: Readonly<Record<string, string>> = {
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
}

const ofRoles = roleNames.map((name): [string, () => Promise<Command>] => [
  name,
  async () => (await import('./actor-command.ts')).actorCommand(name),
])

export const commands: Readonly<Record<string, () => Promise<Command>>> = {
  ...ofTheSystem,
  ...Object.fromEntries(ofRoles),
}

export async function commandsText(): Promise<string> {
  const loaded = await Promise.all(Object.values(ofTheSystem).map((load) => load()))
  const rows = [
    ...loaded.map(({ name, does }) => [name, does]),
    ...roleNames.map((name) => [name, roles[name].does]),
    ...Object.entries(projectCommands),
  ]
  const lines = rows.map(([name = '', does = '']) => `  ${name.padEnd(14)}${does}`)
  return `carillon <command> [flags]\n\nCommands:\n${lines.join('\n')}\n\ncarillon <command> --help tells the flags of a command.`
}
