// Where the gateway listens, and whether it may.
import { RefusedError } from '../../../shared/base/errors.ts'
import type { GatewayConfig } from '../config.ts'

export interface ListenAddress {
  /** undefined: every interface. */
  readonly host: string | undefined
  readonly port: number
}

/** Throws RefusedError `err-carillon-listen`. */
export function parseListen(text: string): ListenAddress {
  const match = /^(?:\[([0-9A-Fa-f:.%a-z]+)\]|([^:[\]/\s]*)):(\d{1,5})$/.exec(text)
  const port = Number(match?.[3])
  if (match === null || port > 65_535) {
    throw new RefusedError('err-carillon-listen', `--listen "${text}" is not host:port, [IPv6]:port or :port`)
  }
  return { host: match[1] || match[2] || undefined, port }
}

/** Throws RefusedError `err-carillon-open-door` when strangers could come in and nothing says that they may. */
export function assertMayListen({ host }: ListenAddress, config: GatewayConfig): void {
  if (isLoopback(host) || config.authFile !== '' || config.allowUnauthenticated) return
  throw new RefusedError(
    'err-carillon-open-door',
    `--listen ${config.listen} lets in whoever can reach this machine: name the users with --auth-file FILE, ` +
      'or say --allow-unauthenticated when a proxy or the network keeps strangers out',
  )
}

export function isLoopback(host: string | undefined): boolean {
  if (host === undefined) return false
  return (
    host === 'localhost' ||
    host === '::1' ||
    /^127(\.\d{1,3}){3}$/.test(host) ||
    /^::ffff:127(\.\d{1,3}){3}$/i.test(host)
  )
}
