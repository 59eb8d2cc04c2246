// Marks and flushes by hand: for those who test, move or back up a system.
import { RefusedError } from '../../../shared/base/errors.ts'
import type { Bus } from '../../../shared/bus/port.ts'
import { parseDuration } from '../../../shared/config/units.ts'
import { FLUSH_WAIT_MS_MAX, type FlushKind } from '../../../shared/contracts/flush.ts'
import { flushMembers } from '../../../shared/membership/flush-members.ts'
import type { Membership } from '../../../shared/membership/membership.ts'
import { type Exchange, jsonAnswer, type Route } from '../http/exchange.ts'

export interface FlushRoutesDeps {
  readonly bus: Bus
  readonly membership: Membership
}

export function flushRoutes({ bus, membership }: FlushRoutesDeps): readonly Route[] {
  const route = (kind: FlushKind): Route => ({
    ...{ name: 'flush', methods: ['POST'], path: `/api/v1/admin/${kind}`, access: 'admin', errors: 'json' },
    async answer(exchange) {
      const ids = membership.live('ingester').map(({ id }) => id)
      return jsonAnswer(await flushMembers(bus, ids, { kind, waitMs: waitOf(exchange) }))
    },
  })
  return [route('mark'), route('flush')]
}

/** `?wait=30s`; without it the answer says how things stand. */
function waitOf({ search }: Exchange): number {
  const text = new URLSearchParams(search).get('wait') ?? '0'
  const waitMs = parseDuration(text)
  if (waitMs !== undefined && waitMs >= 0 && waitMs <= FLUSH_WAIT_MS_MAX) return waitMs
  const wanted = `a duration up to ${FLUSH_WAIT_MS_MAX / 60_000}m, such as 30s`
  throw new RefusedError('err-carillon-bad-request', `wait "${text.slice(0, 40)}" is not ${wanted}`)
}
