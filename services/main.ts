// carillon <command>: the composition root. Loads what the command needs, and no more.
import { RefusedError, textOf } from '../shared/base/errors.ts'
import { nearest } from '../shared/config/units.ts'
import { exitCodes } from './cli/command.ts'
import { commands, commandsText, projectCommands } from './cli/commands.ts'
import { GatewayError, withId } from './cli/gateway-client.ts'
import { SetupError } from './launcher/setup-error.ts'

/** Runs one command line and resolves with the exit code. */
export async function main(argv: readonly string[]): Promise<number> {
  const [first = '--help', ...rest] = argv
  try {
    if (first === '--help' || first === '-h' || (first === 'help' && rest[0] === undefined))
      return print(`Usage: ${await commandsText()}\n\n${exitCodes}\n`)
    if (first === '--version') return print(`${(await import('./launcher/actor-process.ts')).projectVersion()}\n`)
    const [name, args] = first === 'help' ? [rest[0] ?? '', ['--help']] : [first, rest]
    const load = Object.hasOwn(commands, name) ? commands[name] : undefined
    if (load === undefined) throw await unknown(name)
    const command = await load()
    const wantsHelp = args.includes('--help') || args.includes('-h')
    return wantsHelp ? print(await command.help()) : await command.run(args)
  } catch (error) {
    if (error instanceof SetupError) return complain(error.message, error.exitCode)
    if (error instanceof GatewayError) return complain(withId(error.message, error.code), 1)
    if (error instanceof RefusedError) return complain(withId(error.message, error.code), 2)
    if (error instanceof Error && 'syscall' in error) return complain(error.message, 1) // a file, a disk, a socket
    process.stderr.write(`carillon: a bug: ${error instanceof Error ? error.stack : textOf(error)}\n`)
    return 70
  }
}

async function unknown(name: string): Promise<SetupError> {
  const words = Object.keys(projectCommands).flatMap((listed) => listed.match(/\b[a-z]+\b/g) ?? [])
  const near = nearest(name, [...Object.keys(commands), ...words])
  const hint = near === undefined ? '' : `; did you mean ${near}?`
  return new SetupError(2, `there is no command "${name}"${hint}\n\n${await commandsText()}`)
}

function print(text: string): number {
  process.stdout.write(text)
  return 0
}

function complain(text: string, exitCode: number): number {
  process.stderr.write(`carillon: ${text}\n`)
  return exitCode
}

if (import.meta.main) process.exit(await main(process.argv.slice(2)))
