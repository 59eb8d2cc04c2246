// docs/http-api.md names every route of the gateway with its methods and the right that it wants, and no other.
import { expect, test } from 'vitest'
import { gatewaySettings } from '../../services/gateway/config.ts'
import type { Route } from '../../services/gateway/http/exchange.ts'
import { gatewayRoutes, type RoutesDeps } from '../../services/gateway/routes/routes.ts'
import { systemClock } from '../../shared/base/clock.ts'
import { defaultsOf } from '../../shared/config/settings.ts'
import { readSource } from './sources.ts'

/** What the tables are made with, and what nobody asks before a request comes. */
const unasked = new Proxy(() => undefined, { get: () => unasked, apply: () => unasked }) as never
const deps: Record<keyof RoutesDeps, unknown> = {
  config: defaultsOf(gatewaySettings),
  clock: systemClock,
  id: 'gateway-1',
  ...{ bus: unasked, durability: unasked, log: unasked, membership: unasked, metrics: unasked, objects: unasked },
  ...{ random: unasked, readiness: unasked, version: unasked },
}

function rightOf({ access, isOpenToAdmin, isOfTenants }: Route): string {
  if (isOfTenants === true) return `${access} of the tenant`
  return isOpenToAdmin === true ? `${access} or admin` : access
}

/** `GET /ring (admin)`: an entry of the list, once for each root that its section names. */
function routesIn(document: string): string[] {
  return document.split(/^## /m).flatMap((section) => {
    const named = /^Roots: (.*?)\. /m.exec(section)?.[1]
    const roots = named === undefined ? [''] : [...named.matchAll(/`(\/[^`]*)`/g)].map(([, root = '']) => root)
    const entries = [...section.matchAll(/^- `([A-Z, ]+) (\/[^`]*)` \(([^)]+)\)/gm)]
    return entries.flatMap(([, methods, path, right]) =>
      roots.map((root) => `${methods} ${root === '/' ? '' : root}${path} (${right})`),
    )
  })
}

test('docs/http-api.md names every route, with its methods and the right that it wants', () => {
  const served = gatewayRoutes(deps as RoutesDeps).map(
    (route) => `${route.methods.join(', ')} ${route.path} (${rightOf(route)})`,
  )
  expect(routesIn(readSource('docs/http-api.md').text).sort()).toEqual(served.sort())
})
