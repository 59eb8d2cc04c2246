// Of one address only so many passwords may be wrong a minute. Who is known already is not asked here.
import { LRUCache } from 'lru-cache'
import type { Clock } from '../../../shared/base/clock.ts'
import { UnavailableError } from '../../../shared/base/errors.ts'

/** Addresses that are remembered; the one that was wrong longest ago is forgotten first. */
const ADDRESSES_MAX = 10_000
const MINUTE_MS = 60_000

export interface FailedLogins {
  /** An attempt counts as wrong until it is told to have succeeded. Throws UnavailableError when too many were. */
  begin(address: string): { succeeded(): void }
}

export interface FailedLoginsOptions {
  readonly clock: Clock
  /** Wrong passwords of one address: as many at once, and as many a minute after that. */
  readonly failuresMax: number
}

export function createFailedLogins({ clock, failuresMax }: FailedLoginsOptions): FailedLogins {
  const byAddress = new LRUCache<string, { left: number; atMs: number }>({ max: ADDRESSES_MAX })

  return {
    begin(address) {
      const now = clock.monotonic()
      const place = placeOf(address)
      const bucket = byAddress.get(place) ?? { left: failuresMax, atMs: now }
      bucket.left = Math.min(failuresMax, bucket.left + ((now - bucket.atMs) * failuresMax) / MINUTE_MS)
      bucket.atMs = now
      byAddress.set(place, bucket)
      if (bucket.left < 1) {
        throw new UnavailableError(
          'err-carillon-failed-logins',
          'too many wrong passwords came from this address; nobody new may log in from it for a while',
        )
      }
      bucket.left--
      return { succeeded: () => void bucket.left++ }
    },
  }
}

/** An IPv4 address, or the network of an IPv6 one: whoever has one of its addresses has them all. */
export function placeOf(address: string): string {
  const [, mapped] = /^::ffff:(\d+\.\d+\.\d+\.\d+)$/i.exec(address) ?? []
  if (mapped !== undefined) return mapped
  if (!address.includes(':')) return address
  const [left = '', right] = address.toLowerCase().split('%')[0]!.split('::')
  const groups = left === '' ? [] : left.split(':')
  if (right !== undefined) {
    const after = right === '' ? [] : right.split(':')
    while (groups.length + after.length < 8) groups.push('0')
    groups.push(...after)
  }
  return `${groups
    .slice(0, 4)
    .map((group) => group.replace(/^0+(?=.)/, ''))
    .join(':')}::/64`
}
