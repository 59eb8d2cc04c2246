// What a command is: one file each, which `commands.ts` lists and `main.ts` runs.
import { helpText, type SettingsSection } from '../../shared/config/help.ts'
import { type ConfigOf, flagName, type SettingsTable } from '../../shared/config/settings.ts'

export interface Command {
  readonly name: string
  /** In the list of commands: one line. */
  readonly does: string
  readonly help: () => string | Promise<string>
  /** Resolves with the exit code. */
  readonly run: (argv: readonly string[]) => Promise<number>
}

export const exitCodes = `Exit codes: 0 stopped as asked; 1 cannot start or go on; 2 wrong settings, or no nats-server to be had; 70 a bug.`

/** What a command says at its end. */
export interface Outcome {
  readonly text: string
  /** 0 where it is absent. */
  readonly exitCode?: number
}

export interface CommandSpec<T extends SettingsTable, C> {
  readonly name: string
  /** What follows the name: verbs and operands. */
  readonly usage: string
  readonly does: string
  /** The paragraph under the usage. */
  readonly intro: string
  readonly settings: T
  /** Sections of the help below its own. */
  readonly also: readonly SettingsSection[]
  /** Settings, and what `run` works with beside them. Throws SetupError for what cannot be right. */
  readonly read: (own: T, argv: readonly string[]) => Promise<readonly [ConfigOf<T>, C]>
  /** `words`: what stands between the flags; a command that takes none leaves them to `read`, which refuses them. */
  readonly takesWords?: true
  readonly run: (call: { words: readonly string[]; config: ConfigOf<T>; context: C }) => Promise<Outcome>
}

/** A command that does one thing, says what came of it, and ends. */
export function command<T extends SettingsTable, C>(spec: CommandSpec<T, C>): Command {
  const { name, usage, does, intro, settings, also } = spec
  return {
    name,
    does,
    help: () =>
      helpText({
        usage: `carillon ${name} ${usage}`,
        intro,
        sections: [{ title: name, table: settings }, ...also],
        after: exitCodes,
      }),
    async run(argv) {
      const tables = [settings, ...also.map(({ table }) => table)]
      const { flags, words } = spec.takesWords ? parted(Object.assign({}, ...tables), argv) : { flags: argv, words: [] }
      const [config, context] = await spec.read(settings, flags)
      const { text, exitCode = 0 } = await spec.run({ words, config, context })
      process.stdout.write(text)
      return exitCode
    },
  }
}

/** Flags with their values, and what stands between them. */
function parted(table: SettingsTable, argv: readonly string[]): { flags: string[]; words: string[] } {
  const isSwitch = (name: string) =>
    Object.entries(table).some(([key, setting]) => setting.kind === 'flag' && flagName(key, setting) === name)
  const flags: string[] = []
  const words: string[] = []
  for (let index = 0; index < argv.length; index++) {
    const argument = argv[index]!
    if (!argument.startsWith('--')) words.push(argument)
    else {
      flags.push(argument)
      const next = argv[index + 1]
      if (argument.includes('=') || isSwitch(argument.slice(2)) || next === undefined) continue
      flags.push(next)
      index++
    }
  }
  return { flags, words }
}
