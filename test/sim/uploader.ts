// A client that uploads blocks: staged as a gateway stages them, then waited for until a compactor has listed them.
import { ConflictError, UnavailableError } from '../../shared/base/errors.ts'
import { hex } from '../../shared/base/random.ts'
import type { KvBucket } from '../../shared/bus/port.ts'
import {
  encodePlan,
  partName,
  planName,
  stagedFolder,
  UPLOADS_BUCKET,
  type UploadRecord,
  uploadKey,
  uploadRecord,
} from '../../shared/contracts/uploads.ts'
import type { Labels } from '../../shared/model/labels.ts'
import type { ObjectStore } from '../../shared/objects/port.ts'
import { META_FILE } from '../../shared/tsdb/block/files.ts'
import { metaBytes } from '../../shared/tsdb/block/meta.ts'
import { sha256Of } from '../../shared/wire/sha256.ts'
import { valueIn } from '../records.ts'
import { floatValue, type SeriesMap, writeBlock } from '../services/compactor/merge-ground.ts'
import type { Ledger, Shipment } from './ledger.ts'
import { type Scene, TENANTS } from './scene.ts'

const BACK_MS = 4 * 3_600_000 - 1_000_000
const OBJECT_TIMEOUT_MS = 5_000
const TRIES_MAX = 100
const WAIT_MS = 20_000
const PAUSE_MS = 1_200

export async function uploader(scene: Scene, ledger: Ledger, objects: ObjectStore): Promise<void> {
  const chance = scene.plan.random('uploader')
  const bus = scene.hub.connect('uploader')
  const bucket = await again(scene, () => bus.bucket(UPLOADS_BUCKET))
  while (scene.isChaos()) {
    await scene.sleep(chance.below(PAUSE_MS))
    const tenant = TENANTS[chance.below(TENANTS.length)]!
    const shipment = ledger.drawUpload(chance, {
      tenant,
      startMs: scene.clock.startMs - BACK_MS,
      begun: scene.moment(),
    })
    const nonce = hex(chance.bytes(8))
    const record = await again(scene, () => stage(scene, { objects, bucket, shipment, nonce }))
    scene.trace(`block ${record.ulid} of ${tenant} is uploaded`)
    if ((await outcomeOf(scene, bucket, record)) !== 'complete') return
    ledger.acknowledge(shipment, scene.moment())
    scene.count('uploads')
  }
}

/** What a gateway does until the record says `waiting`. */
async function stage(
  scene: Scene,
  of: { objects: ObjectStore; bucket: KvBucket; shipment: Shipment; nonce: string },
): Promise<UploadRecord> {
  const { objects, bucket, shipment, nonce } = of
  const { tenant } = shipment
  const { meta, files } = await writeBlock(seriesOf(shipment))
  const given = metaBytes(meta)
  const nowMs = Math.floor(scene.clock.now())
  const bytes = [...files.values()].reduce((sum, file) => sum + file.length, given.length)
  const record: UploadRecord = {
    ...{ v: 1, tenant, ulid: meta.ulid, nonce, metaSha256: sha256Of(given), bytes, replaces: false, state: 'waiting' },
    ...{ beganAtMs: nowMs, changedAtMs: nowMs, incarnation: '', beat: 0, attempt: 0, blocks: [] },
  }
  const key = uploadKey(tenant, meta.ulid)
  const known = await bucket.get(key)
  if (known?.value !== undefined && valueIn(uploadRecord, known.value).nonce === nonce) return record // its answer was lost
  const folder = stagedFolder(record)
  const all = [...files, [META_FILE, given] as const]
  for (const [name, content] of all)
    await objects.create(partName(folder, name, 0), content, { timeoutMs: OBJECT_TIMEOUT_MS })
  const plan = encodePlan(all.map(([name, content]) => ({ name, size: content.length })))
  await objects.create(planName(folder), plan, { timeoutMs: OBJECT_TIMEOUT_MS })
  await bucket.create(key, uploadRecord.format.encode(record))
  return record
}

export function seriesOf({ sends }: Shipment): SeriesMap {
  const series = new Map<
    string,
    { labels: Labels; samples: { time: number; value: ReturnType<typeof floatValue> }[] }
  >()
  for (const send of sends) {
    const one = series.get(send.series) ?? { labels: send.labels, samples: [] }
    series.set(send.series, one)
    one.samples.push({ time: send.time, value: floatValue(send.value) })
  }
  for (const { samples } of series.values()) samples.sort((a, b) => a.time - b.time)
  return series
}

async function outcomeOf(scene: Scene, bucket: KvBucket, record: UploadRecord): Promise<string> {
  let state = ''
  let why = ''
  const isOver = async () => {
    const entry = await again(scene, () => bucket.get(uploadKey(record.tenant, record.ulid)))
    const found = entry?.value && valueIn(uploadRecord, entry.value)
    if (found && found.nonce === record.nonce) {
      state = found.state
      why = found.error?.text ?? ''
    }
    return state === 'complete' || state === 'failed'
  }
  const untilMs = scene.clock.monotonic() + WAIT_MS
  while (!(await isOver()) && scene.clock.monotonic() < untilMs) await scene.sleep(100)
  const mayFail = scene.plan.has('deletions') || isSpoilt(scene) // its tenant is being deleted, or it was damaged
  if (state === '' || state === 'waiting' || state === 'validating') scene.fault(`upload ${record.ulid} stays ${state}`)
  if (state === 'failed' && !mayFail) scene.fault(`upload ${record.ulid} failed: ${why}`)
  return state
}

function isSpoilt({ plan }: Scene): boolean {
  return plan.has('object-damage') || plan.has('object-misread')
}

async function again<T>(scene: Scene, call: () => Promise<T>): Promise<T> {
  for (let tries = 1; ; tries++) {
    try {
      return await call()
    } catch (error) {
      const mayPass = error instanceof UnavailableError || error instanceof ConflictError
      if (!mayPass || tries === TRIES_MAX) throw error
      await scene.sleep(50)
    }
  }
}
