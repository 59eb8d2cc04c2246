// Bounds what is in flight: requests, requests of one tenant, bytes. Passing a bound is an answer (503), never a queue.
import { UnavailableError } from '../../../shared/base/errors.ts'

export interface LoadBounds {
  readonly what: string
  readonly requestsMax: number
  readonly tenantRequestsMax: number
  readonly bytesMax: number
}

export interface Lease {
  /** Counts more bytes in. Throws UnavailableError when all requests together hold too many. */
  readonly grow: (bytes: number) => void
  readonly end: () => void
}

export interface Load {
  /** Throws UnavailableError when too many are in flight. */
  enter(tenant: string): Lease
  requests(): number
  bytes(): number
}

export function createLoad({ what, requestsMax, tenantRequestsMax, bytesMax }: LoadBounds): Load {
  const ofTenant = new Map<string, number>() // bounded by requestsMax
  let requestCount = 0
  let byteCount = 0

  return {
    requests: () => requestCount,
    bytes: () => byteCount,
    enter(tenant) {
      const tenantCount = ofTenant.get(tenant) ?? 0
      if (requestCount >= requestsMax) throw overloaded(`too many inflight ${what} requests in gateway`)
      if (tenantCount >= tenantRequestsMax)
        throw overloaded(`too many inflight ${what} requests of this tenant in gateway`)
      requestCount++
      ofTenant.set(tenant, tenantCount + 1)
      let held = 0
      return {
        grow(bytes) {
          if (byteCount + bytes > bytesMax) throw overloaded(`too many bytes in inflight ${what} requests in gateway`)
          byteCount += bytes
          held += bytes
        },
        end() {
          requestCount--
          byteCount -= held
          const left = ofTenant.get(tenant)! - 1
          if (left === 0) ofTenant.delete(tenant)
          else ofTenant.set(tenant, left)
        },
      }
    },
  }
}

function overloaded(text: string): UnavailableError {
  return new UnavailableError('err-carillon-overloaded', text)
}
