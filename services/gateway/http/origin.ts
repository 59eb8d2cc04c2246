// Where a request comes from, as its browser tells: whose page sent it, and by what name it found this door. Who has no browser has no
// pages that speak in their name, and is asked nothing here.
//
// Invariants
//   ORIGIN-1  A request that may change something and was sent by a page of another site is refused (403) before anything else is looked at: a
//       browser adds remembered credentials, and reaches doors that are open to this machine alone.
//   ORIGIN-2  Where nobody is asked who he is because the door is this machine's alone, only names of this machine are served (403): a stranger's
//       name that resolves to us makes the stranger's pages ours. With --allowed-hosts only those and the names of this machine are, everywhere.
//   ORIGIN-3  Answers are read by pages of another origin only where --cors-origin names it, and only those of the query API.
import type { IncomingMessage } from 'node:http'
import { RefusedError } from '../../../shared/base/errors.ts'
import type { GatewayConfig } from '../config.ts'
import type { Route } from './exchange.ts'
import { isLoopback, parseListen } from './listen.ts'

export interface OriginRules {
  /** Throws RefusedError 400, 403. */
  assertWelcome(request: IncomingMessage, route: Route | undefined): void
  /** Headers that let pages read the answer. */
  corsOf(request: IncomingMessage): Record<string, string>
}

/** Whether a request of that method changes nothing. */
export const isSafe = (method: string | undefined): boolean => ['GET', 'HEAD', 'OPTIONS'].includes(method ?? '')

export type OriginConfig = Pick<GatewayConfig, 'listen' | 'authFile' | 'allowedHosts' | 'corsOrigin'>

export function createOriginRules(config: OriginConfig): OriginRules {
  const readers = new Set(config.corsOrigin.map((origin) => origin.toLowerCase()))
  const hosts = new Set(config.allowedHosts.map((host) => hostOf(host)))
  const areHostsBound = hosts.size > 0 || (config.authFile === '' && isLoopback(parseListen(config.listen).host))
  return {
    assertWelcome(request, route) {
      const host = authorityOf(request)
      if (areHostsBound && host !== undefined && !isKnownHost(hostOf(host))) throw strangeHost(host)
      if (isSafe(request.method)) return
      const isReading = route?.hasCors === true && mayRead(request)
      if (!isReading && comesFromElsewhere(request, host)) throw crossSite(route)
    },
    corsOf(request) {
      if (!mayRead(request)) return { Vary: 'Origin' }
      return {
        Vary: 'Origin',
        'Access-Control-Allow-Origin': readers.has('*') ? '*' : request.headers.origin!,
        'Access-Control-Allow-Headers':
          'Accept, Authorization, Content-Type, Origin, X-Scope-OrgID, X-Read-Consistency',
        'Access-Control-Allow-Methods': 'GET, POST, OPTIONS',
        'Access-Control-Expose-Headers': 'Date',
      }
    },
  }

  function mayRead({ headers: { origin } }: IncomingMessage): boolean {
    return origin !== undefined && (readers.has('*') || readers.has(origin.toLowerCase()))
  }

  function isKnownHost(host: string): boolean {
    return isLoopback(host) || host.endsWith('.localhost') || hosts.has(host)
  }
}

/** What the caller called us: of the absolute form of a request line what stands there, else Host. Throws when that is said twice. */
function authorityOf(request: IncomingMessage): string | undefined {
  const { host: hosts = [] } = request.headersDistinct
  if (hosts.length > 1) throw new RefusedError('err-carillon-malformed-http', 'Host is given more than once')
  return /^[a-z]+:\/\/([^/?#]*)/i.exec(request.url ?? '')?.[1] ?? hosts[0]
}

/** ORIGIN-1: by the browser's own word where it has one, which holds behind proxies too; else by Origin. Neither: no browser. */
function comesFromElsewhere({ headers }: IncomingMessage, host: string | undefined): boolean {
  const site = headers['sec-fetch-site']
  if (site !== undefined) return site !== 'same-origin' && site !== 'none'
  const { origin } = headers
  if (origin === undefined) return false
  return !URL.canParse(origin) || host === undefined || !isSameHost(new URL(origin), host)
}

/** The scheme is the proxy's in front of us, not ours. */
function isSameHost(origin: URL, host: string): boolean {
  const own = `${origin.protocol}//${host}`
  return URL.canParse(own) && new URL(own).host === origin.host
}

/** Without port, brackets and case. */
function hostOf(authority: string): string {
  const [, bracketed, plain = ''] = /^(?:\[([^\]]*)\]|([^:]*))/.exec(authority.toLowerCase()) ?? []
  return (bracketed ?? plain).replace(/\.$/, '')
}

function strangeHost(host: string): RefusedError {
  const text = `this door is not known as "${host.slice(0, 100)}"; name the hosts that it has with --allowed-hosts`
  return new RefusedError('err-carillon-host', text, { status: 403 })
}

function crossSite(route: Route | undefined): RefusedError {
  const hint = route?.hasCors === true ? '; name its origin with --cors-origin' : ''
  return new RefusedError('err-carillon-cross-site', `a page of another site may not do this${hint}`, { status: 403 })
}
