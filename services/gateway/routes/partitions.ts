// More partition logs for a running system, by an administrator.
import { RefusedError } from '../../../shared/base/errors.ts'
import type { Bus } from '../../../shared/bus/port.ts'
import { parseNumber } from '../../../shared/config/units.ts'
import { addPartitions } from '../../../shared/membership/bootstrap.ts'
import { type Answer, type Exchange, jsonAnswer, type Route } from '../http/exchange.ts'

export function partitionRoutes({ bus }: { readonly bus: Bus }): readonly Route[] {
  return [
    {
      ...{ name: 'partitions', methods: ['POST'], path: '/api/v1/admin/partitions', access: 'admin', errors: 'json' },
      answer: add,
    },
  ]

  /** `?add=2`: they are read at once, and take series when all members know them; /api/v1/status/ring says how many do. */
  async function add({ search }: Exchange): Promise<Answer> {
    const text = new URLSearchParams(search).get('add') ?? ''
    const more = parseNumber(text)
    if (more === undefined || !Number.isInteger(more) || more < 1)
      throw new RefusedError(
        'err-carillon-bad-request',
        `add "${text.slice(0, 40)}" is no number of partitions, such as 2`,
      )
    const { count, writable } = await addPartitions(bus, more)
    return jsonAnswer({ count, writable })
  }
}
