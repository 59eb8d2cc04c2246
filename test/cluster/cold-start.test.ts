// Everything stopped and started again: old and new samples are answered at once, and the start does not take longer with more blocks.
import { expect, test } from 'vitest'
import { systemClock } from '../../shared/base/clock.ts'
import { systemRandom } from '../../shared/base/random.ts'
import { openBlocks } from '../../shared/blocks/open.ts'
import type { BlockEntry } from '../../shared/contracts/blocks.ts'
import { labelsFrom, labelsKey } from '../../shared/model/labels.ts'
import { natsObjects } from '../../shared/objects/nats-objects.ts'
import { silentLog } from '../../shared/telemetry/log.ts'
import { metaBytes } from '../../shared/tsdb/block/meta.ts'
import { floatValue, type SeriesMap, writeBlock } from '../services/compactor/merge-ground.ts'
import { eventually } from '../waiting.ts'
import { withBus } from './check.ts'
import { ask, pushUntilTaken, sample } from './client.ts'
import { cleanUpAfterEach, isSkipped, startOn, startServer } from './fault-ground.ts'
import type { NatsServer } from './nats-server.ts'
import { killEverything } from './processes.ts'
import type { System } from './system.ts'

cleanUpAfterEach()
const TENANTS = ['one', 'two', 'three']
const HOUR_MS = 3_600_000
const SAMPLES = 50
const args = ['--partitions=1', '--segment-min=500ms', '--flush=200ms', '--drop-after=500ms', '--compact-delay=1000d']

test.skipIf(isSkipped)(
  'a start takes no longer with 300 blocks than with 10, and answers old and new queries at once',
  async () => {
    const server = await startServer()
    const firstMs = Math.floor(Date.now() / (2 * HOUR_MS)) * 2 * HOUR_MS - 400 * HOUR_MS
    let system = await startOn(server, args)
    await addBlocks(server, { from: 0, count: 9, firstMs })
    const few = await restarted(server, system, { perTenant: 3, firstMs })
    system = few.system
    await addBlocks(server, { from: 9, count: 291, firstMs })
    const many = await restarted(server, system, { perTenant: 100, firstMs })
    console.log(`cold start: 10 blocks: ${few.text}; 300 blocks: ${many.text}`)
    expect(many.readyMs).toBeLessThan(2 * few.readyMs + 3_000)
    expect(many.oneBlockMs).toBeLessThan(5_000)
    expect(many.allBlocksMs).toBeLessThan(10_000)
  },
)

/** Kills everything but the server's files, and starts it anew; what was written last is in the log only. */
async function restarted(
  server: NatsServer,
  before: System,
  { perTenant, firstMs }: { perTenant: number; firstMs: number },
) {
  const newMs = Date.now()
  for (const tenant of TENANTS)
    await pushUntilTaken(before.url, { series: [sample('fresh', perTenant, [], newMs)] }, { tenant })
  await killEverything(before)
  await server.restart()
  const startMs = performance.now()
  const system = await startOn(server, args)
  const readyMs = performance.now() - startMs
  for (const tenant of TENANTS) expect(await answer(system, tenant, 'fresh', newMs)).toBe(String(perTenant))
  const freshMs = performance.now() - startMs - readyMs
  const oneMs = performance.now()
  for (const tenant of TENANTS)
    expect(await answer(system, tenant, 'count_over_time(old[2h])', firstMs + 2 * HOUR_MS - 1)).toBe(String(SAMPLES))
  const oneBlockMs = (performance.now() - oneMs) / TENANTS.length
  const allMs = performance.now()
  const wanted = String(SAMPLES * perTenant)
  for (const tenant of TENANTS) expect(await answer(system, tenant, 'count_over_time(old[500h])', newMs)).toBe(wanted)
  const allBlocksMs = (performance.now() - allMs) / TENANTS.length
  const round = (ms: number) => `${Math.round(ms)} ms`
  const text = `ready after ${round(readyMs)}, new samples ${round(freshMs)}, one block ${round(oneBlockMs)}, all ${round(allBlocksMs)}`
  return { system, readyMs, oneBlockMs, allBlocksMs, text }
}

async function answer(system: System, tenant: string, query: string, timeMs: number): Promise<string | undefined> {
  return eventually(`an answer to ${query}`, 10_000, async () => {
    const { status, body } = await ask(system.url, '/api/v1/query', { query, time: String(timeMs / 1_000) }, { tenant })
    return status === 200 ? (body.data.result[0]?.value[1] as string | undefined) : undefined
  })
}

/** Blocks `from` … of all tenants in turn, each of the next two hours, as a flush would list them. */
async function addBlocks(
  server: NatsServer,
  { from, count, firstMs }: { from: number; count: number; firstMs: number },
): Promise<void> {
  const objects = await natsObjects({ servers: server.url, name: 'test', clock: systemClock })
  await withBus(server.url, async (bus) => {
    const blocks = await openBlocks({ bus, objects, clock: systemClock, random: systemRandom, log: silentLog })
    const added = new Map<string, BlockEntry[]>(TENANTS.map((tenant) => [tenant, []]))
    for (let i = from; i < from + count; i++) {
      const tenant = TENANTS[i % TENANTS.length]!
      const startMs = firstMs + Math.floor(i / TENANTS.length) * 2 * HOUR_MS
      const labels = labelsFrom({ __name__: 'old' })
      const samples = Array.from({ length: SAMPLES }, (_, k) => ({
        time: startMs + k * 60_000,
        value: floatValue(i + k),
      }))
      const series: SeriesMap = new Map([[labelsKey(labels), { labels, samples }]])
      const { meta, files } = await writeBlock(series, i + 1)
      const all = [...files]
        .map(([name, bytes]) => ({ name, bytes }))
        .concat([{ name: 'meta.json', bytes: metaBytes(meta) }])
      const stored = await blocks.uploadBlock(tenant, { ulid: meta.ulid, files: all })
      const { ulid, minTime, maxTime, stats } = meta
      added.get(tenant)!.push({
        ...{ ulid, minTime, maxTime, ...stored, resolutionMs: 0 },
        ...{ seriesCount: stats.numSeries!, sampleCount: stats.numSamples!, chunkCount: stats.numChunks! },
        origin: { kind: 'compaction', level: 3 },
      })
    }
    for (const [tenant, entries] of added)
      await blocks.update(tenant, (manifest) => ({ ...manifest, blocks: [...manifest.blocks, ...entries] }))
    blocks.close()
  })
  await objects.close()
}
