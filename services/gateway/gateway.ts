// The gateway is the edge: it speaks HTTP outside and asks the other actors over the bus. It owns no data, so any number of
// gateways may stand side by side and the death of one costs only the requests it was answering.
//
// Invariants
//   G1 to G3  push.ts      what an acknowledgement means, which distributor takes a body in
//   A1 to A4  auth.ts      who may come in
//   H1 to H3  door.ts      one answer per request
//   O1 to O3  origin.ts    what pages of other sites may do
//   P1        durability.ts  what is known of the server
import { readFileSync } from 'node:fs'
import { RefusedError, textOf } from '../../shared/base/errors.ts'
import { every } from '../../shared/bus/actor.ts'
import type { ServiceDeps } from '../../shared/membership/deps.ts'
import type { MemberActor } from '../../shared/membership/member-actor.ts'
import { type Authenticator, createAuthenticator } from './auth.ts'
import { readAuthFile } from './auth-file.ts'
import type { GatewayConfig } from './config.ts'
import { createDoor } from './door.ts'
import { createDurabilityGate } from './durability.ts'
import { createFailedLogins } from './failed-logins.ts'
import { identify } from './identity.ts'
import { assertMayListen, parseListen } from './listen.ts'
import { createOriginRules } from './origin.ts'
import { createPasswords } from './passwords.ts'
import { createReadiness } from './readiness.ts'
import { createRouter } from './router.ts'
import { gatewayRoutes } from './routes.ts'

export type GatewayDeps = ServiceDeps & { readonly config: GatewayConfig }

/** Its address is host:port as really taken; only between start and stop. */
export type Gateway = MemberActor & { address(): string }

export function gateway(deps: GatewayDeps): Gateway {
  const { bus, clock, random, log, metrics, config, id, membership } = deps
  const durability = createDurabilityGate({ bus, log, metrics, requirePowerSafe: config.requirePowerSafe })
  const readiness = createReadiness({ bus, membership, assertDurable: durability.assertDurable })
  const passwords = createPasswords()
  const failedLogins = createFailedLogins({ clock, failuresMax: config.failedLoginsMax })
  let authenticator: Authenticator | undefined
  const door = createDoor({
    config,
    clock,
    random,
    log,
    metrics,
    origins: createOriginRules(config),
    router: createRouter(gatewayRoutes({ ...deps, durability, readiness, version })),
    identify: (request, { access, isOpenToAdmin = false }) =>
      identify(request, access, { authenticator, requireTenant: config.requireTenant, isOpenToAdmin }),
    challenge: config.authFile === '' ? undefined : 'Basic realm="carillon", charset="UTF-8"',
  })

  return {
    name: 'gateway',
    serves: [],
    hears: [],
    every: [every(config.durabilityCheckMs, 'ask the server how durable it is', durability.check)],
    start,
    lacks: async () =>
      (await readiness.lacks()).map(({ side, text }) => (side === undefined ? text : `${side}: ${text}`)),
    async stop() {
      durability.stop()
      await door.close(config.drainMs)
      await passwords.stop()
    },
    address: door.address,
  }

  async function start(): Promise<void> {
    const listen = parseListen(config.listen)
    assertMayListen(listen, config)
    if (config.authFile !== '') {
      const deps = { clock, random, passwords, failedLogins }
      authenticator = createAuthenticator(readAuthFile(authText(config.authFile)), deps)
    }
    await durability.check()
    await door.open(listen.host, listen.port)
  }

  function version(): string {
    return membership.members().find((member) => member.id === id)?.version ?? ''
  }
}

function authText(path: string): string {
  try {
    return readFileSync(path, 'utf8')
  } catch (cause) {
    throw new RefusedError('err-carillon-auth-file', `--auth-file ${path}: ${textOf(cause)}`, { cause })
  }
}
