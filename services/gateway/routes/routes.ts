// Everything that the gateway answers over HTTP.

import type { Metrics } from '../../../shared/telemetry/metrics.ts'
import type { Route } from '../http/exchange.ts'
import { createLoad, type Load } from '../http/in-flight.ts'
import { indexRoutes } from '../pages/index-page.ts'
import { type PageDeps, pageRoutes } from '../pages/pages.ts'
import { ringRoutes } from '../pages/ring-page.ts'
import { activeQueryRoutes } from './active-queries.ts'
import { type BlockDeps, blockRoutes } from './blocks.ts'
import { compactionRoutes } from './compaction.ts'
import { type DeletionDeps, deletionRoutes } from './deletions.ts'
import { type ElectionDeps, electionRoutes } from './elections.ts'
import { flushRoutes } from './flush.ts'
import { limitsRoutes } from './limits.ts'
import { partitionRoutes } from './partitions.ts'
import { type PushDeps, pushRoutes } from './push.ts'
import { type QueryDeps, queryRoutes } from './queries.ts'
import { scrubRoutes } from './scrubbing.ts'
import { type StatusApiDeps, statusApiRoutes } from './status-api.ts'
import { type UploadDeps, uploadRoutes } from './uploads.ts'

export type RoutesDeps = PageDeps &
  ElectionDeps &
  DeletionDeps &
  Omit<PushDeps, 'load' | 'bytesTaken' | 'assertDurable'> &
  StatusApiDeps &
  Omit<QueryDeps, 'load'> &
  Omit<BlockDeps, 'load'> &
  Omit<UploadDeps, 'load'> & { readonly metrics: Metrics }

export function gatewayRoutes(deps: RoutesDeps): readonly Route[] {
  const { config, metrics, durability } = deps
  const pushLoad = createLoad({
    what: 'push',
    requestsMax: config.pushesInFlightMax,
    tenantRequestsMax: config.tenantInFlightMax,
    bytesMax: config.pushesInFlightBytesMax,
  })
  const queryLoad = createLoad({
    what: 'query',
    requestsMax: config.queriesInFlightMax,
    tenantRequestsMax: config.tenantInFlightMax,
    bytesMax: config.answersInFlightBytesMax,
  })
  metrics.gaugeOf('carillon_gateway_inflight_push_bytes', 'Bytes of the bodies being taken in.', pushLoad.bytes)
  metrics.gaugeOf('carillon_gateway_inflight_answer_bytes', 'Bytes of query answers being sent.', queryLoad.bytes)
  const bytesTaken = metrics.counter(
    'carillon_gateway_push_bytes_total',
    'Bytes of remote_write bodies that came in, compressed.',
  )
  return [
    ...pushRoutes({ ...deps, load: pushLoad, bytesTaken, assertDurable: durability.assertDurable }),
    ...electionRoutes(deps),
    ...queryRoutes({ ...deps, load: queryLoad }),
    ...statusApiRoutes(deps),
    ...activeQueryRoutes(deps),
    ...limitsRoutes(deps),
    ...indexRoutes(),
    ...pageRoutes(deps),
    ...ringRoutes(deps),
    ...flushRoutes(deps),
    ...partitionRoutes(deps),
    ...compactionRoutes(deps),
    ...scrubRoutes(deps),
    ...deletionRoutes(deps),
    ...uploadRoutes({ ...deps, load: requestsOnly('upload', config.uploadRequestsInFlightMax) }),
    ...blockRoutes({ ...deps, load: requestsOnly('block', config.blockReadsInFlightMax) }),
  ]
}

function requestsOnly(what: string, requestsMax: number): Load {
  return createLoad({ what, requestsMax, tenantRequestsMax: requestsMax, bytesMax: Number.POSITIVE_INFINITY })
}
