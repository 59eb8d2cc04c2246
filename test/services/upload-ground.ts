// A gateway on HTTP and compactors behind it, on a memory bus and a store in memory; blocks to send.
import { compactor } from '../../services/compactor/compactor.ts'
import { type CompactorConfig, compactorSettings } from '../../services/compactor/config.ts'
import type { Importer } from '../../services/compactor/worker/import-job.ts'
import { inlineMerger } from '../../services/compactor/worker/inline-worker.ts'
import type { GatewayConfig } from '../../services/gateway/config.ts'
import { systemClock } from '../../shared/base/clock.ts'
import { seededRandom } from '../../shared/base/random.ts'
import { runActor } from '../../shared/bus/run-actor.ts'
import { defaultsOf } from '../../shared/config/settings.ts'
import type { Membership } from '../../shared/membership/membership.ts'
import { type Labels, labelsFrom, labelsKey } from '../../shared/model/labels.ts'
import { memoryObjects } from '../../shared/objects/memory-objects.ts'
import { silentLog } from '../../shared/telemetry/log.ts'
import { createMetrics } from '../../shared/telemetry/metrics.ts'
import { floatValue, type SeriesMap, type TestBlock, writeBlock } from './compactor/merge-ground.ts'
import { startSystem } from './gateway/system.ts'

export const TENANT = 'acme'
/** A multiple of a day, some time ago. */
export const DAY = 1_700_006_400_000

export interface Answered {
  readonly status: number
  readonly id: string | null
  readonly text: string
  // biome-ignore lint/suspicious/noExplicitAny: tests compare it whole
  readonly json: any
}

export interface Ground {
  readonly url: string
  readonly objects: ReturnType<typeof memoryObjects>
  readonly hub: Awaited<ReturnType<typeof startSystem>>['hub']
  compactor(name: string, config?: Partial<CompactorConfig>, importer?: Importer): Promise<{ stop(): Promise<void> }>
  stop(): Promise<void>
}

export async function startGround(config: Partial<GatewayConfig> = {}): Promise<Ground> {
  const objects = memoryObjects()
  const system = await startSystem({ objects, config })
  const stops: (() => Promise<void>)[] = []
  return {
    url: system.url,
    objects,
    hub: system.hub,
    async compactor(name, change = {}, importer = inlineMerger) {
      const bus = system.hub.connect(name)
      const deps = {
        ...{ bus, objects, clock: systemClock, random: seededRandom(3), log: silentLog, metrics: createMetrics() },
        ...{ id: name, incarnation: `${name}-life`, merger: { ...inlineMerger, import: importer.import } },
        membership: { partitionCount: () => 2 } as Membership,
      }
      const timing = { leaseMs: 600, compactEveryMs: 60_000, sweepEveryMs: 50, ...change }
      const actor = compactor({ ...deps, config: defaultsOf(compactorSettings, timing) })
      const running = runActor(actor, { bus, clock: deps.clock, random: deps.random, log: silentLog, drainMs: 100 })
      await running.ready
      let isStopped = false
      const stop = async () => {
        if (isStopped) return
        isStopped = true
        await running.stop()
      }
      stops.push(stop)
      return { stop }
    },
    async stop() {
      for (const stop of stops.reverse()) await stop()
      await system.stop()
    },
  }
}

export async function call(
  url: string,
  path: string,
  options: { method?: string; body?: Uint8Array | string; tenant?: string; headers?: Record<string, string> } = {},
): Promise<Answered> {
  const { method = 'GET', body, tenant = TENANT, headers = {} } = options
  const response = await fetch(`${url}${path}`, {
    method,
    headers: { 'X-Scope-OrgID': tenant, ...headers },
    ...(body === undefined ? {} : { body: Buffer.from(body as Uint8Array) }),
  })
  const text = await response.text()
  const json = text.startsWith('{') ? JSON.parse(text) : undefined
  return { status: response.status, id: response.headers.get('X-Carillon-Error-Id'), text, json }
}

// ---- blocks ----

/** `count` samples, one a minute from `start` on, in each series. */
export function seriesOf(names: readonly Labels[], { start = DAY, count = 130 } = {}): SeriesMap {
  return new Map(
    names.map((labels, which) => {
      const samples = Array.from({ length: count }, (_, i) => ({
        ...{ time: start + i * 60_000, value: floatValue(which * 1000 + ((i * 37) % 101) / 7) },
      }))
      return [labelsKey(labels), { labels, samples }]
    }),
  )
}

export const named = (name: string, ...rest: (readonly [string, string])[]): Labels =>
  labelsFrom([['__name__', name], ...rest])

export interface Sent {
  readonly ulid: string
  /** As the body of start. */
  readonly meta: Uint8Array
  readonly files: Map<string, Uint8Array>
}

/** A block as others make it: no section of ours, the files listed as Mimir's tools do. */
export function sendable(block: TestBlock, change: (meta: Record<string, unknown>) => object = (meta) => meta): Sent {
  const { carillon: _, ...rest } = block.meta
  const listed = [...block.files].map(([name, bytes]) => ({ rel_path: name, size_bytes: bytes.length }))
  const meta = change({ ...rest, thanos: { files: listed } })
  return { ulid: block.meta.ulid, meta: Buffer.from(JSON.stringify(meta)), files: new Map(block.files) }
}

export const someBlock = async (names = [named('a', ['job', 'x']), named('b')], at = {}): Promise<TestBlock> =>
  writeBlock(seriesOf(names, at))

export const uploadUrl = (ulid: string): string => `/api/v1/upload/block/${ulid}`

/** Start, all files, finish. The first refusal is answered. */
export async function send(url: string, { ulid, meta, files }: Sent, tenant = TENANT): Promise<Answered> {
  const started = await call(url, `${uploadUrl(ulid)}/start`, { method: 'POST', body: meta, tenant })
  if (started.status !== 200) return started
  for (const [name, body] of files) {
    const sent = await call(url, `${uploadUrl(ulid)}/files?path=${encodeURIComponent(name)}`, {
      method: 'POST',
      body,
      tenant,
    })
    if (sent.status !== 200) return sent
  }
  return await call(url, `${uploadUrl(ulid)}/finish`, { method: 'POST', tenant })
}

/** What became of it. */
export async function outcome(url: string, ulid: string, tenant = TENANT): Promise<Answered> {
  for (let attempt = 0; attempt < 200; attempt++) {
    const checked = await call(url, `${uploadUrl(ulid)}/check`, { tenant })
    if (checked.status !== 200 || ['complete', 'failed'].includes(checked.json.result)) return checked
    await new Promise((resolve) => setTimeout(resolve, 50))
  }
  throw new Error(`the upload of ${ulid} does not end`)
}

export async function listedBlocks(url: string, tenant = TENANT): Promise<{ ulid: string; origin: object }[]> {
  return (await call(url, '/api/v1/blocks', { tenant })).json.data.blocks
}
