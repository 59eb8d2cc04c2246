// The file named by --auth-file: who there is, what each may do.
//
// users:  [{ username, password_hash (bcrypt), tenant or tenants, rights: [read, write, admin, metrics] }]
// tokens: [{ token_sha256 (hex), tenant or tenants, rights }]
import { readFileSync } from 'node:fs'
import { parse, YAMLParseError } from 'yaml'
import { z } from 'zod'
import { RefusedError, textOf } from '../../../shared/base/errors.ts'
import { parseTenant } from '../../../shared/model/tenant.ts'
import { costOf } from './bcrypt-cost.ts'

const CREDENTIALS_MAX = 10_000
/** A hash of cost 13 takes a second of a core, each further one twice as long. */
export const BCRYPT_COST_MAX = 13

export type Right = (typeof RIGHTS)[number]

/** `admin` and `metrics` want no tenant. */
const RIGHTS = ['read', 'write', 'admin', 'metrics'] as const

export interface Credential {
  /** For the log: a username, or the beginning of a token's hash. */
  readonly name: string
  /** At least one for `read` and `write`; none: `admin` is for all, and for what belongs to none. */
  readonly tenants: readonly string[]
  readonly rights: ReadonlySet<Right>
}

export interface User extends Credential {
  readonly passwordHash: string
}

export interface Token extends Credential {
  readonly hash: Buffer
}

export interface Credentials {
  readonly users: ReadonlyMap<string, User>
  readonly tokens: readonly Token[]
}

const grant = {
  tenant: z.string().optional(),
  tenants: z.array(z.string()).max(1000).optional(),
  rights: z.array(z.enum(RIGHTS)).min(1),
}
const authFile = z.strictObject({
  users: z
    .array(
      z.strictObject({
        username: z
          .string()
          .min(1)
          .refine((name) => !name.includes(':'), 'a username holds no colon'),
        password_hash: z
          .string()
          .regex(/^\$2[aby]\$\d\d\$[./A-Za-z0-9]{53}$/, 'wants a bcrypt hash, $2b$…')
          .refine(
            (hash) => costOf(hash) <= BCRYPT_COST_MAX,
            `has a cost above ${BCRYPT_COST_MAX}: each login would take seconds`,
          ),
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

/** Throws RefusedError `err-carillon-auth-file`. */
export function authFileText(path: string): string {
  try {
    return readFileSync(path, 'utf8')
  } catch (cause) {
    throw new RefusedError('err-carillon-auth-file', `--auth-file ${path}: ${textOf(cause)}`, { cause })
  }
}

/** Throws RefusedError `err-carillon-auth-file` that names every fault of the file. */
export function readAuthFile(text: string): Credentials {
  let raw: unknown
  try {
    raw = parse(text, { maxAliasCount: 0, prettyErrors: false, logLevel: 'error' })
  } catch (error) {
    throw fault(whyUnread(text, error))
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

/** Where and of what kind: the parser's own words show the line, and hashes stand there, or passwords that somebody took for hashes. */
function whyUnread(text: string, error: unknown): string {
  if (!(error instanceof YAMLParseError)) return 'aliases are not taken'
  const before = text.slice(0, error.pos[0]).split('\n')
  const kind = error.code.toLowerCase().replaceAll('_', ' ')
  return `is not YAML from line ${before.length}, column ${before.at(-1)!.length + 1} on (${kind})`
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
  if (all.length === 0 && rights.some((right) => right === 'read' || right === 'write'))
    throw fault(`${name} has no tenant to read or write`)
  return { name, tenants: all, rights: new Set(rights) }
}

function fault(text: string, cause?: unknown): RefusedError {
  return new RefusedError('err-carillon-auth-file', `--auth-file: ${text}`, { cause })
}
