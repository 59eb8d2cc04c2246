// `carillon version`: which one this is.
import { projectVersion } from '../launcher/actor-process.ts'
import { type Command, exitCodes } from './command.ts'

export const versionCommand: Command = {
  name: 'version',
  does: 'which version of Carillon this is',
  help: () => `Usage: carillon version\n\nPrints the version of Carillon.\n\n${exitCodes}\n`,
  async run() {
    process.stdout.write(`${projectVersion()}\n`)
    return 0
  },
}
