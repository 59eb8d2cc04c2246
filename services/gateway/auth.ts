// Who a caller is: basic or bearer credentials of the file named by --auth-file.
//
// users:  [{ username, password_hash (bcrypt), tenant or tenants, rights: [read, write, admin] }]
// tokens: [{ token_sha256 (hex), tenant or tenants, rights }]
//
// Invariants
//   A1  Neither time nor text tells whether a user exists: an unknown one costs a bcrypt comparison too.
//   A2  Hashes are compared in constant time.
//   A3  Verdicts are remembered under a keyed hash of the header, briefly and boundedly; the credential itself is not kept.
//   A4  At most BCRYPT_IN_FLIGHT_MAX comparisons run at a time; more are answered 503, so that guessing cannot stop those who are known.
import { createHash, createHmac, timingSafeEqual } from 'node:crypto'
import { compare } from 'bcryptjs'
import { LRUCache } from 'lru-cache'
import { parse } from 'yaml'
import { z } from 'zod'
import type { Clock } from '../../shared/base/clock.ts'
import { RefusedError, textOf, UnavailableError } from '../../shared/base/errors.ts'
import type { Random } from '../../shared/base/random.ts'
import { parseTenant } from '../../shared/model/tenant.ts'

export const BCRYPT_IN_FLIGHT_MAX = 8
const VERDICTS_MAX = 4096
const VERDICT_MS = 60_000
const HEADER_LENGTH_MAX = 4096
const CREDENTIALS_MAX = 10_000

export type Right = 'read' | 'write' | 'admin'

export interface Credential {
  /** For the log: a username, or the beginning of a token's hash. */
  readonly name: string
  /** At least one, unless the only right is `admin`. */
  readonly tenants: readonly string[]
  readonly rights: ReadonlySet<Right>
}

export interface Authenticator {
  /** undefined: nobody known. Rejects with UnavailableError when too many are being checked. */
  verify(authorization: string): Promise<Credential | undefined>
}

const grant = {
  tenant: z.string().optional(),
  tenants: z.array(z.string()).max(1000).optional(),
  rights: z.array(z.enum(['read', 'write', 'admin'])).min(1),
}
const authFile = z.strictObject({
  users: z
    .array(
      z.strictObject({
        username: z
          .string()
          .min(1)
          .refine((name) => !name.includes(':'), 'a username holds no colon'),
        password_hash: z.string().regex(/^\$2[aby]\$\d\d\$[./A-Za-z0-9]{53}$/, 'wants a bcrypt hash, $2b$…'),
        ...grant,
      }),
    )
    .max(CREDENTIALS_MAX)
    .default([]),
  tokens: z
    .array(z.strictObject({ token_sha256: z.string().regex(/^[0-9a-fA-F]{64}$/, 'wants 64 hex digits'), ...grant }))
    .max(CREDENTIALS_MAX)
    .default([]),
})

interface User extends Credential {
  readonly passwordHash: string
}
interface Token extends Credential {
  readonly hash: Buffer
}

/** Throws RefusedError `err-carillon-auth-file` that names every fault of the file. */
export function createAuthenticator(text: string, { clock, random }: { clock: Clock; random: Random }): Authenticator {
  const { users, tokens } = readAuthFile(text)
  const key = random.bytes(32)
  const verdicts = new LRUCache<string, { credential: Credential | undefined }>({
    max: VERDICTS_MAX,
    ttl: VERDICT_MS,
    perf: { now: () => clock.monotonic() + 1 }, // the cache takes 0 for "no time"
  })
  const running = new Map<string, Promise<Credential | undefined>>() // bounded by A4
  const decoy = [...users.values()][0]?.passwordHash

  return {
    async verify(authorization) {
      if (authorization.length > HEADER_LENGTH_MAX) return undefined
      const digest = createHmac('sha256', key).update(authorization).digest('base64') // A3
      const known = verdicts.get(digest) ?? (await running.get(digest)?.then((credential) => ({ credential })))
      if (known !== undefined) return known.credential
      const checking = check(authorization)
      running.set(digest, checking)
      try {
        const credential = await checking
        verdicts.set(digest, { credential })
        return credential
      } finally {
        running.delete(digest)
      }
    },
  }

  async function check(authorization: string): Promise<Credential | undefined> {
    const [, scheme = '', value = ''] = /^(\S+) +(\S+)$/.exec(authorization.trim()) ?? []
    if (scheme.toLowerCase() === 'bearer') return checkToken(value)
    if (scheme.toLowerCase() === 'basic') return await checkPassword(Buffer.from(value, 'base64').toString())
    return undefined
  }

  function checkToken(token: string): Credential | undefined {
    const hash = createHash('sha256').update(token).digest()
    let found: Token | undefined
    for (const each of tokens) if (timingSafeEqual(each.hash, hash)) found = each // A2: all are looked at
    return found
  }

  async function checkPassword(pair: string): Promise<Credential | undefined> {
    const colon = pair.indexOf(':')
    if (colon < 0 || decoy === undefined) return undefined
    const user = users.get(pair.slice(0, colon))
    if (running.size >= BCRYPT_IN_FLIGHT_MAX) {
      throw new UnavailableError('err-carillon-auth-busy', 'too many credentials are being checked') // A4
    }
    const isRight = await compare(pair.slice(colon + 1), user?.passwordHash ?? decoy) // A1
    return isRight ? user : undefined
  }
}

function readAuthFile(text: string): { users: Map<string, User>; tokens: Token[] } {
  let raw: unknown
  try {
    raw = parse(text, { maxAliasCount: 0 })
  } catch (cause) {
    throw fault(textOf(cause), cause)
  }
  const result = authFile.safeParse(raw ?? {})
  if (!result.success) {
    throw fault(
      result.error.issues.map((issue) => `${issue.path.join('.')}: ${issue.message}`).join('; '),
      result.error,
    )
  }
  const users = new Map<string, User>()
  for (const { username, password_hash, ...rest } of result.data.users) {
    if (users.has(username)) throw fault(`user "${username}" stands there twice`)
    users.set(username, { ...credentialOf(`user ${username}`, rest), passwordHash: password_hash })
  }
  const tokens = result.data.tokens.map(({ token_sha256, ...rest }): Token => {
    return { ...credentialOf(`token ${token_sha256.slice(0, 8)}`, rest), hash: Buffer.from(token_sha256, 'hex') }
  })
  if (users.size + tokens.length === 0) throw fault('it names neither users nor tokens, so nobody could come in')
  return { users, tokens }
}

interface Grant {
  readonly tenant?: string | undefined
  readonly tenants?: readonly string[] | undefined
  readonly rights: readonly Right[]
}

function credentialOf(name: string, { tenant, tenants = [], rights }: Grant): Credential {
  const all = [...new Set(tenant === undefined ? tenants : [tenant, ...tenants])]
  for (const each of all) {
    try {
      parseTenant(each)
    } catch (cause) {
      throw fault(`${name}: ${textOf(cause)}`, cause)
    }
  }
  if (all.length === 0 && rights.some((right) => right !== 'admin'))
    throw fault(`${name} has no tenant to read or write`)
  return { name, tenants: all, rights: new Set(rights) }
}

function fault(text: string, cause?: unknown): RefusedError {
  return new RefusedError('err-carillon-auth-file', `--auth-file: ${text}`, { cause })
}
