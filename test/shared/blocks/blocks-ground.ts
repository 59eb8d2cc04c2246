// Where manifests and watermarks are tested: on the memory bus and on a real nats-server alike.
import { afterAll, beforeAll, describe } from 'vitest'
import { systemClock } from '../../../shared/base/clock.ts'
import { systemRandom } from '../../../shared/base/random.ts'
import { openBlocks } from '../../../shared/blocks/open.ts'
import type { Blocks } from '../../../shared/blocks/port.ts'
import { createMemoryHub } from '../../../shared/bus/memory/memory-bus.ts'
import { connectNats } from '../../../shared/bus/nats/nats-bus.ts'
import type { Bus, KvBucket } from '../../../shared/bus/port.ts'
import { BLOCKS_BUCKET, type Flushed } from '../../../shared/contracts/blocks.ts'
import { memoryObjects } from '../../../shared/objects/memory-objects.ts'
import { natsObjects } from '../../../shared/objects/nats-objects.ts'
import type { ObjectStore } from '../../../shared/objects/port.ts'
import { silentLog } from '../../../shared/telemetry/log.ts'
import { findNatsServer, startNatsServer } from '../../cluster/nats-server.ts'

export const call = { timeoutMs: 10_000 }

export const flushedTo = (segment: number): Flushed => ({
  segment,
  mark: { seq: segment * 10, nonce: 'n', incarnation: 'i' },
  digests: { [segment]: `d${segment}` },
})

interface Ground {
  connect(): Promise<Bus>
  readonly objects: ObjectStore
  close(): Promise<void>
}

async function memoryGround(): Promise<Ground> {
  const hub = createMemoryHub({ clock: systemClock, random: systemRandom })
  let count = 0
  return { connect: async () => hub.connect(`c${count++}`), objects: memoryObjects(), close: async () => {} }
}

async function natsGround(): Promise<Ground> {
  const server = await startNatsServer({ syncAlways: false })
  const objects = await natsObjects({ servers: server.url, name: 'objects', clock: systemClock })
  await objects.setUp({ replicas: 1, bytesMax: 0 }, { timeoutMs: 10_000 })
  const buses: Bus[] = []
  return {
    async connect() {
      const bus = await connectNats({ servers: server.url, name: 'test', clock: systemClock })
      buses.push(bus)
      return bus
    },
    objects,
    async close() {
      for (const bus of buses) await bus.close()
      await objects.close()
      await server.stop()
    },
  }
}

const found = findNatsServer()
if ('reason' in found) console.warn(`skipped: manifests on NATS ${found.reason}`)

/** What stands when a test begins, on one of the two. */
export interface Standing {
  readonly ground: Ground
  readonly blocks: Blocks
  readonly bucket: KvBucket
  /** A tenant, or a number, that no other test has. */
  fresh(): string
  freshNumber(): number
  open(objects?: ObjectStore): Promise<Blocks>
}

/** The tests are declared twice; `standing` is filled when they run. */
export function onEachBus(title: string, declare: (standing: Standing) => void): void {
  for (const [name, make] of [
    ['memory', memoryGround],
    ['JetStream', natsGround],
  ] as const) {
    describe.skipIf(name === 'JetStream' && 'reason' in found)(`${title} on ${name}`, () => {
      let count = 0
      const standing = {
        fresh: () => `tenant.${name}*${count++}`,
        freshNumber: () => 100 + count++,
        open: async (objects = standing.ground.objects) =>
          openBlocks({
            ...{ bus: await standing.ground.connect(), objects },
            ...{ clock: systemClock, random: systemRandom, log: silentLog },
          }),
      } as { -readonly [K in keyof Standing]: Standing[K] }
      beforeAll(async () => {
        standing.ground = await make()
        standing.blocks = await standing.open()
        standing.bucket = await (await standing.ground.connect()).bucket(BLOCKS_BUCKET)
      })
      afterAll(async () => {
        standing.blocks.close()
        await standing.ground.close()
      })
      declare(standing)
    })
  }
}

export function codeOf(read: () => unknown): string | undefined {
  try {
    read()
    return undefined
  } catch (error) {
    return (error as { code?: string }).code
  }
}
