// Who a caller is: basic or bearer credentials of the file named by --auth-file.
//
// Invariants
//   AUTH-1  Neither time nor text tells whether a user exists: every password costs as much as the costliest hash of the file.
//   AUTH-2  Hashes are compared in constant time.
//   AUTH-3  Verdicts are remembered under a keyed hash of the header, boundedly: bad ones briefly, good ones until the file changes, and apart, so
//       that guesses do not push out who is known. The credential itself is not kept.
//   AUTH-4  Guessing cannot stop those who are known: passwords are compared in a thread with a short queue (passwords.ts), and of one
//       address only so many are, of wrong ones only so many a minute (failed-logins.ts). More are answered 503.
import { createHash, createHmac, timingSafeEqual } from 'node:crypto'
import { LRUCache } from 'lru-cache'
import type { Clock } from '../../../shared/base/clock.ts'
import type { Random } from '../../../shared/base/random.ts'
import type { Credential, Credentials, Token } from './auth-file.ts'
import { costOf } from './bcrypt-cost.ts'
import type { FailedLogins } from './failed-logins.ts'
import type { Passwords } from './passwords.ts'

const VERDICTS_MAX = 4096
const BAD_VERDICT_MS = 60_000
const HEADER_LENGTH_MAX = 4096

export interface Authenticator {
  /** undefined: nobody known. Rejects with UnavailableError when too many are being checked, or too many were wrong. */
  verify(authorization: string, address: string): Promise<Credential | undefined>
}

export interface AuthenticatorDeps {
  readonly clock: Clock
  readonly random: Random
  readonly passwords: Passwords
  readonly failedLogins: FailedLogins
}

export function createAuthenticator(
  { users, tokens }: Credentials,
  { clock, random, passwords, failedLogins }: AuthenticatorDeps,
): Authenticator {
  const key = random.bytes(32)
  const known = new LRUCache<string, Credential>({ max: VERDICTS_MAX })
  const unknown = new LRUCache<string, true>({
    max: VERDICTS_MAX,
    ttl: BAD_VERDICT_MS,
    perf: { now: () => clock.monotonic() + 1 }, // the cache takes 0 for "no time"
  })
  const running = new Map<string, Promise<Credential | undefined>>() // bounded by AUTH-4
  const costMax = Math.max(0, ...[...users.values()].map(({ passwordHash }) => costOf(passwordHash)))

  return {
    async verify(authorization, address) {
      if (authorization.length > HEADER_LENGTH_MAX) return undefined
      const [, scheme = '', value = ''] = /^(\S+) +(\S+)$/.exec(authorization.trim()) ?? []
      if (scheme.toLowerCase() === 'bearer') return checkToken(value)
      if (scheme.toLowerCase() !== 'basic' || users.size === 0) return undefined
      const digest = createHmac('sha256', key).update(value).digest('base64') // AUTH-3
      const credential = known.get(digest)
      if (credential !== undefined || unknown.has(digest)) return credential
      const checking = running.get(digest) ?? checkPassword(Buffer.from(value, 'base64').toString(), address)
      running.set(digest, checking)
      try {
        const found = await checking
        if (found === undefined) unknown.set(digest, true)
        else known.set(digest, found)
        return found
      } finally {
        running.delete(digest)
      }
    },
  }

  function checkToken(token: string): Credential | undefined {
    const hash = createHash('sha256').update(token).digest()
    let found: Token | undefined
    for (const each of tokens) if (timingSafeEqual(each.hash, hash)) found = each // AUTH-2: all are looked at
    return found
  }

  async function checkPassword(pair: string, address: string): Promise<Credential | undefined> {
    const colon = pair.indexOf(':')
    if (colon < 0) return undefined
    const user = users.get(pair.slice(0, colon))
    const attempt = failedLogins.begin(address) // AUTH-4
    const hash = user?.passwordHash // AUTH-1: without one it costs as much
    const isRight = await passwords.isRight({ password: pair.slice(colon + 1), hash, costMax, address })
    if (!isRight || user === undefined) return undefined
    attempt.succeeded()
    return user
  }
}
