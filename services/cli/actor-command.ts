// `carillon gateway`, `carillon ingester` and so on: one actor in this process. One command per entry of the table of roles.
import { commonSettings } from '../../shared/config/common.ts'
import { helpText } from '../../shared/config/help.ts'
import type { Role } from '../../shared/contracts/member.ts'
import { roles } from '../roles.ts'
import { type Command, exitCodes } from './command.ts'
import { otherTables, readAll } from './settings.ts'

export function actorCommand(name: Role): Command {
  const { does, settings, check, make } = roles[name]
  return {
    name,
    does,
    help: async () =>
      helpText({
        usage: `carillon ${name} --nats URL [flags]`,
        intro: `Runs one ${name}: ${does}. Start as many as you like, on as many machines, on one NATS.`,
        sections: [
          { title: name, table: await settings() },
          { title: 'every actor', table: commonSettings },
        ],
        after: exitCodes,
      }),
    async run(argv) {
      const [common, own] = readAll([commonSettings, await settings()], argv, await otherTables(name))
      const config = Object.freeze({ ...common, ...own }) as never
      await (await check?.())?.(config)
      const [makeActor, { runActorProcess }] = await Promise.all([make(), import('../launcher/actor-process.ts')])
      return runActorProcess({ role: name, common, make: (deps) => makeActor({ ...deps, config }) })
    },
  }
}
