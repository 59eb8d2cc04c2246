// A querier on a memory bus, asked as anyone would ask it.

import { type QuerierConfig, querierSettings } from '../../../services/querier/config.ts'
import { querier } from '../../../services/querier/querier.ts'
import { systemClock } from '../../../shared/base/clock.ts'
import { seededRandom } from '../../../shared/base/random.ts'
import { ask, askStream } from '../../../shared/bus/ask.ts'
import type { MemoryHub } from '../../../shared/bus/memory/memory-bus.ts'
import { runActor } from '../../../shared/bus/run-actor.ts'
import { defaultsOf } from '../../../shared/config/settings.ts'
import { type QueryKind, type QueryParams, query, remoteRead } from '../../../shared/contracts/query.ts'
import type { Membership } from '../../../shared/membership/membership.ts'
import { memoryObjects } from '../../../shared/objects/memory-objects.ts'
import type { ObjectStore } from '../../../shared/objects/port.ts'
import { silentLog } from '../../../shared/telemetry/log.ts'
import { createMetrics, type Metrics } from '../../../shared/telemetry/metrics.ts'

export interface Body {
  readonly status: string
  readonly data?: unknown
  readonly errorType?: string
  readonly error?: string
  readonly warnings?: readonly string[]
  readonly infos?: readonly string[]
}

export interface Harness {
  readonly id: string
  /** `tenant`: as one subject token, `anonymous` unless told. */
  ask(kind: QueryKind, params: QueryParams, signal?: AbortSignal, tenant?: string): Promise<Body>
  /** The body as it came. */
  body(kind: QueryKind, params: QueryParams, signal?: AbortSignal): Promise<Uint8Array>
  /** A remote read: the pieces of the answer as they come. */
  read(params: QueryParams): AsyncGenerator<Uint8Array, void, undefined>
  /** Handlers at work. */
  inFlight(): number
  /** Labels as text → value, of an instant answer. */
  instant(params: QueryParams): Promise<Record<string, string>>
  readonly metrics: Metrics
  stop(): Promise<void>
}

/** Over all labels, or over those among which these stand (`from="cache"`). */
export async function metricOf({ metrics }: Harness, name: string, labels = ''): Promise<number> {
  const lines = (await metrics.text()).split('\n')
  const ofIt = lines.filter((line) => line.split(/[ {]/, 1)[0] === name && line.includes(labels))
  return ofIt.reduce((sum, line) => sum + Number(line.split(' ').at(-1)), 0)
}

let startedCount = 0

export async function startQuerier(
  hub: Pick<MemoryHub, 'connect'>,
  membership: Membership,
  changes: Partial<QuerierConfig> = {},
  objects: ObjectStore = memoryObjects(),
): Promise<Harness> {
  const id = `querier-${++startedCount}`
  const bus = hub.connect(id)
  const asker = hub.connect(`asker of ${id}`)
  const metrics = createMetrics()
  const base = { bus, objects, clock: systemClock, random: seededRandom(2), log: silentLog }
  const config = defaultsOf(querierSettings, changes)
  const actor = querier({ ...base, metrics, id, incarnation: 'y', membership, config })
  const running = runActor(actor, { ...base, drainMs: 50 })
  await running.ready

  const askBody: Harness['ask'] = async (kind, params, signal, tenant = 'anonymous') => {
    const body = await ask(asker, query, { tenant, kind }, params, { signal })
    return JSON.parse(Buffer.from(body).toString()) as Body
  }
  return {
    id,
    metrics,
    ask: askBody,
    body: (kind, params, signal) => ask(asker, query, { tenant: 'anonymous', kind }, params, { signal }),
    read: (params) => askStream(asker, remoteRead, { tenant: 'anonymous' }, params),
    inFlight: () => running.inFlight(),
    async instant(params) {
      const body = await askBody('instant', params)
      if (body.status !== 'success') throw new Error(`${body.errorType}: ${body.error}`)
      const { result } = body.data as { result: { metric: Record<string, string>; value: [number, string] }[] }
      return Object.fromEntries(result.map(({ metric, value }) => [Object.values(metric).join('/'), value[1]]))
    },
    stop: () => running.stop(),
  }
}
