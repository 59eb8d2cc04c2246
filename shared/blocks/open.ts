// Opens what is stored of blocks, for one actor: the watch over the bucket begins here.
import type { Clock } from '../base/clock.ts'
import type { Random } from '../base/random.ts'
import type { Bus } from '../bus/port.ts'
import { BLOCKS_BUCKET } from '../contracts/blocks.ts'
import type { Told } from '../kv/passed-over.ts'
import type { ObjectStore } from '../objects/port.ts'
import type { Log } from '../telemetry/log.ts'
import { ManifestStore } from './manifest-store.ts'
import type { Blocks } from './port.ts'
import { deleteBlock, listBlocks, openBlock, uploadBlock } from './stored-blocks.ts'
import { BlocksView } from './view.ts'
import { advanceFlushed } from './watermarks.ts'

export interface BlocksDeps extends Told {
  readonly bus: Bus
  readonly objects: ObjectStore
  readonly clock: Clock
  readonly random: Random
  readonly log: Log
}

/** Resolves when the watch has shown what is present. */
export async function openBlocks({ bus, objects, clock, random, log, metrics }: BlocksDeps): Promise<Blocks> {
  const bucket = await bus.bucket(BLOCKS_BUCKET)
  const view = new BlocksView({ bucket, log, clock, metrics })
  await view.start()
  const { payloadBytesMax } = bus
  const manifests = new ManifestStore({ bucket, logs: bus.logs, objects, view, clock, random, log, payloadBytesMax })
  return {
    objects,
    bucket,
    tenants: () => view.tenants(),
    manifest: (tenant) => view.manifest(tenant),
    flushed: (partition) => view.flushed(partition)?.segment ?? 0,
    flushedRecord: (partition) => view.flushed(partition),
    watermark: (tenant, partition) =>
      Math.max(view.flushed(partition)?.segment ?? 0, view.manifest(tenant)?.manifest.flushed[String(partition)] ?? 0),
    onChange: (listener) => view.onChange(listener),
    refresh: (timeoutMs) => view.refresh(timeoutMs),
    reach: (tenant, version, timeoutMs) => view.reach(tenant, version, timeoutMs),
    update: (tenant, change, options) => manifests.update(tenant, change, options),
    advanceFlushed: (partition, next) => advanceFlushed(bucket, partition, next),
    repair: (tenant) => manifests.repair(tenant),
    checkChain: (tenant) => manifests.checkChain(tenant),
    uploadBlock: (tenant, block, signal) => uploadBlock(objects, tenant, block, signal),
    openBlock: (tenant, entry) => openBlock(objects, tenant, entry),
    deleteBlock: (tenant, ulid) => deleteBlock(objects, tenant, ulid),
    listBlocks: (tenant) => listBlocks(objects, tenant),
    close: () => view.stop(),
  }
}
