// carillon <command>: the composition root. Loads what the command needs, and no more.
import { RefusedError, textOf } from '../shared/base/errors.ts'
import { commandNamed } from './cli/commands.ts'
import { GatewayError, withId } from './cli/gateway-client.ts'
import { SetupError } from './launcher/setup-error.ts'

const alsoNamed: Readonly<Record<string, string>> = { '--help': 'help', '-h': 'help', '--version': 'version' }

/** Runs one command line and resolves with the exit code. */
export async function main(argv: readonly string[]): Promise<number> {
  const [first = 'help', ...args] = argv
  try {
    const command = await commandNamed(Object.hasOwn(alsoNamed, first) ? alsoNamed[first]! : first)
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

function print(text: string): number {
  process.stdout.write(text)
  return 0
}

function complain(text: string, exitCode: number): number {
  process.stderr.write(`carillon: ${text}\n`)
  return exitCode
}

if (import.meta.main) process.exit(await main(process.argv.slice(2)))
