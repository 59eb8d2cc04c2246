// A gateway on a memory bus, with one actor per role behind it that serves the contracts and remembers what it was asked.
import { createConnection } from 'node:net'
import { type GatewayConfig, gatewaySettings } from '../../../services/gateway/config.ts'
import { type Gateway, gateway } from '../../../services/gateway/gateway.ts'
import { needs } from '../../../services/roles.ts'
import { systemClock } from '../../../shared/base/clock.ts'
import { seededRandom } from '../../../shared/base/random.ts'
import { type Actor, type HandlerContext, serve } from '../../../shared/bus/actor.ts'
import { createMemoryHub } from '../../../shared/bus/memory/memory-bus.ts'
import type { Bus, Durability } from '../../../shared/bus/port.ts'
import { runActor } from '../../../shared/bus/run-actor.ts'
import { defaultsOf } from '../../../shared/config/settings.ts'
import { flushNow } from '../../../shared/contracts/flush.ts'
import {
  metrics as metricsOf,
  type PartitionStatus,
  type Role,
  readiness,
  status as statusOf,
} from '../../../shared/contracts/member.ts'
import { type QueryParams, query } from '../../../shared/contracts/query.ts'
import { type PushReply, type PushRequest, push, pushTo } from '../../../shared/contracts/write.ts'
import { bootstrap } from '../../../shared/membership/bootstrap.ts'
import { asMember } from '../../../shared/membership/member-actor.ts'
import { joinRing } from '../../../shared/membership/membership.ts'
import { decodeTenant } from '../../../shared/model/tenant.ts'
import { memoryObjects } from '../../../shared/objects/memory-objects.ts'
import type { ObjectStore } from '../../../shared/objects/port.ts'
import { silentLog } from '../../../shared/telemetry/log.ts'
import { createMetrics } from '../../../shared/telemetry/metrics.ts'

export interface SystemOptions {
  readonly config?: Partial<GatewayConfig>
  readonly durability?: Durability
  readonly unhealthyAfterMs?: number
  readonly objects?: ObjectStore
  readonly onPush?: (request: PushRequest, tenant: string) => Promise<PushReply> | PushReply
  /** What a member says that it lacks; one that rejects is silent for as long. */
  readonly onReadiness?: (id: string) => Promise<readonly string[]> | readonly string[]
  /** A member is asked for its metrics. */
  readonly onMetrics?: () => void
  readonly onQuery?: (params: QueryParams, kind: string, tenant: string) => Promise<string> | string
  /** Ids by role; one each unless told otherwise. */
  readonly members?: Partial<Record<Exclude<Role, 'gateway' | 'compactor'>, readonly string[]>>
}

export interface System {
  readonly url: string
  readonly port: number
  readonly gateway: Gateway
  /** Tenant and body of every push, by the distributor that took it. */
  readonly pushes: { by: string; tenant: string; protocol: number; body: Uint8Array; requestId: string | undefined }[]
  /** Every question, by the querier that took it. */
  readonly queries: { by: string; tenant: string; kind: string; params: QueryParams }[]
  readonly hub: ReturnType<typeof createMemoryHub>
  crash(id: string): void
  stop(): Promise<void>
}

export const stored: PushReply = {
  samplesWritten: 3,
  histogramsWritten: 2,
  exemplarsWritten: 1,
  position: [{ partition: 0, incarnation: 'abc', seq: 7 }],
}

const memberOptions = { heartbeatMs: 100, unhealthyAfterMs: 2_000, forgetAfterMs: 10_000 }

export async function startSystem(options: SystemOptions = {}): Promise<System> {
  const random = seededRandom(1)
  const durability = options.durability ?? 'best-effort'
  const hub = createMemoryHub({ clock: systemClock, random, durability })
  const setup = hub.connect('setup')
  await bootstrap(setup, { partitions: 2, replicationFactor: 1, logBytesMax: 1_000_000, logReplicas: 1 })
  const pushes: System['pushes'] = []
  const queries: System['queries'] = []
  const crashed = new Set<string>()
  const stops: { id: string; stop: () => Promise<void> }[] = []
  const ids = { distributor: ['distributor-1'], ingester: ['ingester-1'], querier: ['querier-1'], ...options.members }
  for (const role of ['distributor', 'ingester', 'querier'] as const)
    for (const id of ids[role]) await startStub(role, id)
  const own = await join('gateway', 'gateway-1')
  const deps = {
    ...own,
    objects: options.objects ?? memoryObjects(),
    clock: systemClock,
    random,
    log: silentLog,
    metrics: createMetrics(),
  }
  const actor = gateway({
    ...deps,
    needs,
    config: defaultsOf(gatewaySettings, { listen: '127.0.0.1:0', drainMs: 200, ...options.config }),
  })
  const stopGateway = await run(own.bus, asMember(actor, { ...deps, role: 'gateway' }))
  stops.push({ id: own.id, stop: stopGateway })
  const port = Number(actor.address().split(':').at(-1))
  return {
    url: `http://127.0.0.1:${port}`,
    port,
    gateway: actor,
    pushes,
    queries,
    hub,
    crash(id) {
      crashed.add(id)
      hub.crash(id)
    },
    async stop() {
      for (const { id, stop } of stops.reverse()) if (!crashed.has(id)) await stop() // nothing settles on a dead connection
    },
  }

  async function join(role: Role, id: string) {
    const bus = hub.connect(id)
    const incarnation = `${id}-life`
    const self = { id, role, zone: id, incarnation, version: '0.0.1', capacity: 0 }
    const membership = await joinRing({
      bus,
      clock: bus.clock,
      self,
      options: { ...memberOptions, ...(options.unhealthyAfterMs && { unhealthyAfterMs: options.unhealthyAfterMs }) },
      onError: () => {},
    })
    stops.push({ id, stop: () => membership.leave().catch(() => {}) }) // refused where the bus is away
    return { id, bus, incarnation, membership }
  }

  async function startStub(role: Exclude<Role, 'gateway' | 'compactor'>, id: string): Promise<void> {
    const { bus, incarnation, membership } = await join(role, id)
    if (role === 'ingester') membership.setHolds([0, 1])
    const meters = createMetrics()
    meters.counter('carillon_stub_total', 'What a stub counts.').inc(5)
    const partitions: PartitionStatus[] =
      role === 'ingester' ? [0, 1].map((partition) => partitionStatus(partition)) : []
    const common = [
      serve(
        metricsOf,
        async () => {
          options.onMetrics?.()
          return { text: await meters.text() }
        },
        { params: { id } },
      ),
      serve(statusOf, async () => ({ id, role, incarnation, partitions }), {
        params: { id },
      }),
      serve(readiness, async () => ({ lacks: (await options.onReadiness?.(id)) ?? [] }), { params: { id } }),
    ]
    const takePush = async (request: PushRequest, { params, requestId }: HandlerContext<'tenant'>) => {
      const tenant = decodeTenant(params.tenant)
      pushes.push({ by: id, tenant, protocol: request.protocol, body: request.body.slice(), requestId })
      return (await options.onPush?.(request, tenant)) ?? stored
    }
    const onQuery = async (params: QueryParams, question: { params: { tenant: string; kind: string } }) => {
      const tenant = decodeTenant(question.params.tenant)
      const { kind } = question.params
      queries.push({ by: id, tenant, kind, params })
      return Buffer.from((await options.onQuery?.(params, kind, tenant)) ?? '{"status":"success","data":[]}')
    }
    const serves = {
      distributor: [serve(push, takePush), serve(pushTo, takePush, { params: { id } })],
      querier: [serve(query, onQuery)],
      ingester: [
        serve(
          flushNow,
          async ({ kind }) => ({
            partitions: [0, 1].map((partition) => ({ partition, segment: 5, flushed: 3, isDone: kind === 'mark' })),
          }),
          { params: { id } },
        ),
      ],
    }[role]
    const actor: Actor = {
      name: role,
      serves: [...common, ...serves],
      hears: [],
      every: [],
      start: async () => {},
      stop: async () => {},
    }
    stops.push({ id, stop: await run(bus, actor) })
  }
}

async function run(bus: Bus, actor: Actor): Promise<() => Promise<void>> {
  const running = runActor(actor, { bus, clock: systemClock, random: seededRandom(2), log: silentLog, drainMs: 100 })
  await running.ready
  return () => running.stop()
}

function partitionStatus(partition: number): PartitionStatus {
  return {
    partition,
    state: 'caught-up',
    isLeader: true,
    incarnation: 'abc',
    appliedSeq: 7,
    endSeq: 7,
    mark: 1,
    flushed: 0,
    segments: [1],
    digests: ['d1'],
    seriesCount: 1,
    sampleCount: 3,
    damage: [],
  }
}

/** Sends bytes as they are and gives everything that comes back until the other side closes or `waitMs` have passed. */
export function rawExchange(
  port: number,
  parts: readonly (string | Uint8Array | number)[],
  waitMs = 5000,
): Promise<string> {
  return new Promise((resolve, reject) => {
    const socket = createConnection({ port, host: '127.0.0.1' })
    let answer = ''
    const timer = setTimeout(() => socket.destroy(), waitMs)
    socket.setEncoding('latin1').on('data', (chunk: string) => {
      answer += chunk
    })
    socket.on('error', (error: NodeJS.ErrnoException) => {
      if (error.code !== 'ECONNRESET' && error.code !== 'EPIPE') reject(error)
    })
    socket.on('close', () => {
      clearTimeout(timer)
      resolve(answer)
    })
    const send = async () => {
      for (const part of parts) {
        if (typeof part === 'number') await new Promise((next) => setTimeout(next, part))
        else if (!socket.destroyed) socket.write(part)
      }
    }
    send().catch(reject)
  })
}
