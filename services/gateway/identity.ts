// On whose behalf a request comes: the tenant, from the credential or from X-Scope-OrgID.
import type { IncomingMessage } from 'node:http'
import { RefusedError } from '../../shared/base/errors.ts'
import { parseTenant } from '../../shared/model/tenant.ts'
import type { Authenticator } from './auth.ts'
import type { Credential } from './auth-file.ts'
import type { Access } from './exchange.ts'

export const ANONYMOUS = 'anonymous'

export interface IdentityDeps {
  /** undefined: everyone may come in and says who they are. */
  readonly authenticator: Authenticator | undefined
  readonly requireTenant: boolean
  /** The route is for administrators, too; they name the tenant by `?tenant=`. */
  readonly isOpenToAdmin?: boolean
}

/** The tenant ('' where the route belongs to none). Rejects with RefusedError 400, 401, 403. */
export async function identify(request: IncomingMessage, access: Access, deps: IdentityDeps): Promise<string> {
  if (access === 'open') return ''
  const credential = deps.authenticator === undefined ? undefined : await credentialOf(request, deps.authenticator)
  const { isOpenToAdmin = false } = deps
  const isAdmin = isOpenToAdmin && (credential === undefined || credential.rights.has('admin'))
  if (credential !== undefined && !isAdmin && !credential.rights.has(access)) {
    throw new RefusedError('err-carillon-forbidden', `this credential lacks the right "${access}"`, { status: 403 })
  }
  if (access === 'admin') return ''
  const named = (isOpenToAdmin ? askedTenant(request) : undefined) ?? namedTenant(request, access)
  if (isAdmin && named !== undefined) return named
  if (credential !== undefined) return tenantOf(credential, named)
  if (named !== undefined) return named
  if (!deps.requireTenant) return ANONYMOUS
  throw new RefusedError('err-carillon-no-tenant', 'no org id', { status: 401 })
}

async function credentialOf(request: IncomingMessage, authenticator: Authenticator): Promise<Credential> {
  const given = request.headersDistinct['authorization'] ?? []
  const credential =
    given.length === 1 ? await authenticator.verify(given[0]!, request.socket.remoteAddress ?? '') : undefined
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
