// The gateway is the edge: it speaks HTTP outside and asks the other actors over the bus. It owns no data, so any number of
// gateways may stand side by side and the death of one costs only the requests it was answering.
//
// Its invariants stand in routes/push.ts (what an acknowledgement means, which distributor takes a body in), auth/auth.ts (who may come in),
// http/server.ts (one answer per request), http/origin.ts (what pages of other sites may do) and durability.ts (what is known of the server).
import { every } from '../../shared/bus/actor.ts'
import type { ServiceDeps } from '../../shared/membership/deps.ts'
import type { MemberActor } from '../../shared/membership/member-actor.ts'
import { CurrentCredentials } from './auth/credentials.ts'
import { createFailedLogins } from './auth/failed-logins.ts'
import { identify } from './auth/identity.ts'
import { createPasswords } from './auth/passwords.ts'
import type { GatewayConfig } from './config.ts'
import { createDurabilityGate } from './durability.ts'
import { assertMayListen, parseListen } from './http/listen.ts'
import { createOriginRules } from './http/origin.ts'
import { createRouter } from './http/router.ts'
import { HttpServer } from './http/server.ts'
import { createReadiness, type Need } from './pages/readiness.ts'
import { gatewayRoutes } from './routes/routes.ts'

/** How often the auth file is looked at; another text counts at the second look. */
const AUTH_LOOK_MS = 5_000

export type GatewayDeps = ServiceDeps & {
  readonly config: GatewayConfig
  /** Whom it wants to hear from before it is ready. */
  readonly needs: readonly Need[]
}

/** Its address is host:port as really taken; only between start and stop. */
export type Gateway = MemberActor & { address(): string }

export function gateway(deps: GatewayDeps): Gateway {
  const { bus, clock, random, log, metrics, config, id, membership } = deps
  const durability = createDurabilityGate({ bus, log, metrics, requirePowerSafe: config.requirePowerSafe })
  const readiness = createReadiness({ bus, membership, needs: deps.needs, assertDurable: durability.assertDurable })
  const passwords = createPasswords()
  const failedLogins = createFailedLogins({ clock, failuresMax: config.failedLoginsMax })
  let credentials: CurrentCredentials | undefined
  const server = new HttpServer({
    config,
    clock,
    random,
    log,
    metrics,
    origins: createOriginRules(config),
    router: createRouter(gatewayRoutes({ ...deps, durability, readiness, version })),
    identify: (request, route) =>
      identify(request, route, { authenticator: credentials?.authenticator(), requireTenant: config.requireTenant }),
    challenge: config.authFile === '' ? undefined : 'Basic realm="carillon", charset="UTF-8"',
  })

  return {
    name: 'gateway',
    serves: [],
    hears: [],
    every: [
      every(config.durabilityCheckMs, 'ask the server how durable it is', durability.check),
      every(AUTH_LOOK_MS, 'look at the auth file', async () => lookAtCredentials({})),
    ],
    reload: () => lookAtCredentials({ isSettled: true }),
    start,
    lacks: async () =>
      (await readiness.lacks()).map(({ side, text }) => (side === undefined ? text : `${side}: ${text}`)),
    async stop() {
      durability.stop()
      await server.close(config.drainMs)
      await passwords.stop()
    },
    address: () => server.address(),
  }

  function lookAtCredentials(how: { isSettled?: boolean }): void {
    if (credentials?.look(how)) log.info({}, 'other credentials hold')
  }

  async function start(): Promise<void> {
    const listen = parseListen(config.listen)
    assertMayListen(listen, config)
    if (config.authFile !== '')
      credentials = new CurrentCredentials(config.authFile, { clock, random, passwords, failedLogins })
    await durability.check()
    await server.open(listen.host, listen.port)
  }

  function version(): string {
    return membership.members().find((member) => member.id === id)?.version ?? ''
  }
}
