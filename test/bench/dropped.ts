// What a sample of the replica that is not elected costs, beside one that is stored: the CPU of all processes of `npm start`, per sample,
// over both remote_write protocols. node services/carillon.mjs run test/bench/dropped.ts
import { setTimeout as sleep } from 'node:timers/promises'
import { labelsFrom } from '../../shared/model/labels.ts'
import { encodeWriteV1, encodeWriteV2 } from '../../shared/wire/remote-write-encode.ts'
import { compress } from '../../shared/wire/snappy.ts'
import { pushBody } from '../cluster/client.ts'
import { startSystem } from '../cluster/system.ts'
import { treeCpuSeconds, untilIdle } from './process-tree.ts'

const SERIES_PER_BODY = 2000
const SCRAPES = 50
const BODIES_PER_SCRAPE = 10
const SCRAPE_MS = 15_000
const CONNECTIONS = 4
const IDLE_SHARE_MAX = 0.25
const IDLE_MS = 4_000
/** Everything is new to every process in the first ones. */
const WARM_SCRAPES = 8

const system = await startSystem()
const root = system.launcher.pid!
let idleSecondsPerMs = 0
try {
  const before = await untilIdle(root, IDLE_SHARE_MAX)
  await sleep(IDLE_MS)
  idleSecondsPerMs = (treeCpuSeconds(root) - before) / IDLE_MS
  for (const protocol of [1, 2] as const) {
    const firstMs = Date.now() - (SCRAPES + WARM_SCRAPES + 1) * SCRAPE_MS
    await measured(protocol, 'a', { firstMs, scrapes: WARM_SCRAPES })
    await measured(protocol, 'b', { firstMs, scrapes: WARM_SCRAPES })
    const laterMs = firstMs + WARM_SCRAPES * SCRAPE_MS
    const stored = await measured(protocol, 'a', { firstMs: laterMs, scrapes: SCRAPES })
    const dropped = await measured(protocol, 'b', { firstMs: laterMs, scrapes: SCRAPES })
    const ratio = (dropped / stored).toFixed(2)
    console.log(
      `remote_write ${protocol}.0: stored ${stored.toFixed(2)} µs, dropped ${dropped.toFixed(2)} µs a sample: ${ratio}`,
    )
  }
} finally {
  await system.stop()
}

/** Microseconds of CPU per sample. */
async function measured(
  protocol: 1 | 2,
  replica: string,
  { firstMs, scrapes }: { firstMs: number; scrapes: number },
): Promise<number> {
  const queue: Uint8Array[] = []
  for (let scrape = 0; scrape < scrapes; scrape++) {
    for (let part = 0; part < BODIES_PER_SCRAPE; part++)
      queue.push(bodyOf(protocol, replica, part, firstMs + scrape * SCRAPE_MS))
  }
  const samples = queue.length * SERIES_PER_BODY
  const before = await untilIdle(root, IDLE_SHARE_MAX)
  const startMs = performance.now()
  const sending = Array.from({ length: CONNECTIONS }, async () => {
    for (let body = queue.shift(); body !== undefined; body = queue.shift()) {
      const { status, text } = await pushBody(system.url, body, { protocol })
      if (status !== (replica === 'a' ? 204 : 202)) throw new Error(`${replica}: ${status} ${text}`)
    }
  })
  await Promise.all(sending)
  const used = (await untilIdle(root, IDLE_SHARE_MAX)) - before
  return (used - idleSecondsPerMs * (performance.now() - startMs)) * (1e6 / samples)
}

function bodyOf(protocol: 1 | 2, replica: string, part: number, time: number): Uint8Array {
  const series = Array.from({ length: SERIES_PER_BODY }, (_, i) => ({
    labels: labelsFrom({
      __name__: `some_metric_${i % 50}_total`,
      __replica__: replica,
      cluster: `eu-${protocol}`,
      instance: `host-${part}-${i % 40}.example.com:9100`,
      job: 'node',
      path: `/api/v1/things/${i}`,
    }),
    samples: [{ time, value: (i + time / 1000) * 1.1 }],
  }))
  return compress((protocol === 1 ? encodeWriteV1 : encodeWriteV2)({ series }))
}
