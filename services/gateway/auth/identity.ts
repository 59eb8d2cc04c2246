// On whose behalf a request comes, and what he may do: the tenant from the credential or from X-Scope-OrgID, the name from the credential alone.
//
// Invariants
//   IDENTITY-1  Who changed something is who was let in, never what a request says of itself.
//   IDENTITY-2  `admin` acts within the tenants of its entry; of an entry without tenants, on all, and on what belongs to none.
import type { IncomingMessage } from 'node:http'
import { RefusedError } from '../../../shared/base/errors.ts'
import { parseTenant } from '../../../shared/model/tenant.ts'
import type { Access, Route } from '../http/exchange.ts'
import type { Authenticator } from './auth.ts'
import type { Credential } from './auth-file.ts'

export const ANONYMOUS = 'anonymous'

export interface IdentityDeps {
  /** undefined: everyone may come in and says who they are. */
  readonly authenticator: Authenticator | undefined
  readonly requireTenant: boolean
}

export interface Caller {
  /** '' where the route belongs to none. */
  readonly tenant: string
  /** For records: `user alice at 192.0.2.1`. */
  readonly who: string
  /** Throws RefusedError 403 where an administrator may not act on that tenant; undefined: on all (IDENTITY-2). */
  readonly assertAdmin: (tenant: string | undefined) => void
}

type Asked = Pick<Route, 'access' | 'isOpenToAdmin' | 'isOfTenants'>

/** Rejects with RefusedError 400, 401, 403. */
export async function identify(request: IncomingMessage, route: Asked, deps: IdentityDeps): Promise<Caller> {
  const address = request.socket.remoteAddress ?? ''
  if (route.access === 'open') return { tenant: '', who: address, assertAdmin: () => undefined }
  const credential = deps.authenticator === undefined ? undefined : await credentialOf(request, deps.authenticator)
  const who = credential === undefined ? address : `${credential.name} at ${address}`
  const assertAdmin = (tenant: string | undefined) => assertAdminOf(credential, tenant)
  return { tenant: tenantFor(request, route, credential, deps), who, assertAdmin }
}

/** IDENTITY-2. Whoever is not asked who he is administers everything. */
function assertAdminOf(credential: Credential | undefined, tenant: string | undefined): void {
  if (credential === undefined) return
  assertRight(credential, 'admin')
  const { tenants } = credential
  if (tenants.length === 0 || (tenant !== undefined && tenants.includes(tenant))) return
  const text =
    tenant === undefined
      ? 'this credential administers its own tenants, not the system; name one by ?tenant='
      : 'this credential does not administer that tenant'
  throw new RefusedError('err-carillon-wrong-tenant', text, { status: 403 })
}

function assertRight(credential: Credential, right: Exclude<Access, 'open'>): void {
  if (credential.rights.has(right)) return
  throw new RefusedError('err-carillon-forbidden', `this credential lacks the right "${right}"`, { status: 403 })
}

/** The tenant on whose behalf the route is asked, when that is allowed. */
function tenantFor(
  request: IncomingMessage,
  { access, isOpenToAdmin = false, isOfTenants = false }: Asked,
  credential: Credential | undefined,
  { requireTenant }: IdentityDeps,
): string {
  if (access === 'open') return ''
  if (access === 'admin') {
    if (!isOfTenants) assertAdminOf(credential, undefined)
    else if (credential !== undefined) assertRight(credential, 'admin') // whose, the route knows
    return ''
  }
  if (access === 'metrics') {
    if (credential !== undefined && !credential.rights.has('metrics')) assertAdminOf(credential, undefined)
    return ''
  }
  const isAdmin = isOpenToAdmin && (credential === undefined || credential.rights.has('admin'))
  if (credential !== undefined && !isAdmin) assertRight(credential, access)
  const named = (isOpenToAdmin ? askedTenant(request) : undefined) ?? namedTenant(request, access)
  if (credential !== undefined) {
    if (isAdmin && credential.tenants.length === 0 && named !== undefined) return named
    return tenantOf(credential, named)
  }
  if (named !== undefined) return named
  if (!requireTenant) return ANONYMOUS
  throw new RefusedError('err-carillon-no-tenant', 'no org id', { status: 401 })
}

async function credentialOf(request: IncomingMessage, authenticator: Authenticator): Promise<Credential> {
  const given = request.headersDistinct['authorization'] ?? []
  const address = request.socket.remoteAddress ?? ''
  const credential = given.length === 1 ? await authenticator.verify(given[0]!, address) : undefined
  if (credential !== undefined) return credential
  throw new RefusedError('err-carillon-unauthenticated', 'unauthorized', { status: 401 })
}

function askedTenant({ url = '' }: IncomingMessage): string | undefined {
  const at = url.indexOf('?')
  const name = at < 0 ? null : new URLSearchParams(url.slice(at + 1)).get('tenant')
  return name === null || name === '' ? undefined : parseTenant(name)
}

function namedTenant(request: IncomingMessage, access: Access): string | undefined {
  const given = request.headersDistinct['x-scope-orgid'] ?? []
  if (given.length > 1) {
    throw new RefusedError('err-carillon-tenant-id', 'X-Scope-OrgID is given more than once; a request has one tenant')
  }
  const name = given[0]
  if (name === undefined || name === '') return undefined
  if (name.includes('|')) {
    const text =
      access === 'write'
        ? 'a write has one tenant, not several joined by |'
        : 'queries over several tenants are not enabled'
    throw new RefusedError('err-carillon-federation', text)
  }
  return parseTenant(name)
}

function tenantOf(credential: Credential, named: string | undefined): string {
  if (named !== undefined) {
    if (credential.tenants.includes(named)) return named
    throw new RefusedError('err-carillon-wrong-tenant', 'this credential is not for that tenant', { status: 403 })
  }
  if (credential.tenants.length === 1) return credential.tenants[0]!
  throw new RefusedError(
    'err-carillon-tenant-id',
    'this credential is for several tenants; say which one in X-Scope-OrgID',
  )
}
