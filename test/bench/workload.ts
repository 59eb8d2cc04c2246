// What the bench sends: remote_write 1.0 bodies of a fleet of pods, made once from a seed and kept in one file, so that every target
// gets the very same bytes.
//
// A series belongs to one sender connection and its samples keep their order there. Bodies hold up to 2000 samples and are cut where
// they are full, as a Prometheus shard cuts them; only the first scrape ends with a body of its own, to be measured apart.
import fs from 'node:fs'
import path from 'node:path'
import { type Random, seededRandom } from '../../shared/base/random.ts'
import { compress } from '../../shared/wire/snappy.ts'
import { Writer } from '../../shared/wire/varint.ts'

export const SCRAPE_MS = 15_000
/** 2026-01-01 00:00 UTC: always past, always the same. */
export const FIRST_SCRAPE_MS = Date.UTC(2026, 0, 1)
const SAMPLES_PER_BODY_MAX = 2000
const SEED = 3

export interface WorkloadOptions {
  readonly seriesCount: number
  readonly scrapeCount: number
  readonly connectionCount: number
  /** The bodies of one Prometheus of an HA pair: this label on every series. The values are those of its twin. */
  readonly replica?: string
  /** Between two samples of a series; SCRAPE_MS unless told. */
  readonly scrapeMs?: number
  /** Series of these names alone. */
  readonly names?: ReadonlySet<string>
}

export interface Body {
  readonly connection: number
  readonly offset: number
  readonly length: number
  readonly samples: number
  readonly isFirstScrape: boolean
}

export interface Workload extends WorkloadOptions {
  readonly file: string
  /** In the order of sending; those of one connection are in the order of its samples. */
  readonly bodies: readonly Body[]
  readonly sampleCount: number
  readonly rawBytes: number
  readonly metricNames: readonly string[]
  /** Behind the last sample: where instant queries look. */
  readonly endMs: number
}

/** A counter steps by up to `pace` a scrape; a gauge wanders around `level`; a constant stays. */
type Motion = 'counter' | 'seconds' | 'gauge' | 'constant'

interface Series {
  readonly name: string
  /** Protobuf of its labels, as it stands in a TimeSeries message. */
  readonly labels: Uint8Array
  readonly motion: Motion
  readonly pace: number
  readonly offsetMs: number
}

const methods = ['GET', 'POST', 'DELETE']
const statuses = ['200', '201', '404', '500', '503']
const handlers = ['/api/v1/orders', '/api/v1/orders/{id}/items', '/api/v1/customers/{id}', '/internal/health']
const bounds = ['0.005', '0.01', '0.025', '0.05', '0.1', '0.25', '0.5', '1', '2.5', '5', '10', '+Inf']
const gauges = [
  'process_resident_memory_bytes',
  'process_open_fds',
  'process_virtual_memory_bytes',
  'go_goroutines',
  'go_memstats_heap_alloc_bytes',
  'go_memstats_heap_inuse_bytes',
  'go_memstats_next_gc_bytes',
  'app_connections_active',
  'container_memory_working_set_bytes',
  'container_cpu_load_average_10s',
]
const constants = ['process_start_time_seconds', 'process_max_fds', 'kube_pod_status_ready', 'container_spec_cpu_quota']
const POD_SERIES = 250
const JOBS = 20

/** Writes the bodies to a file in `folder`. */
export function makeWorkload(folder: string, options: WorkloadOptions): Workload {
  const { seriesCount, scrapeCount, connectionCount, replica, scrapeMs = SCRAPE_MS, names } = options
  const random = seededRandom(SEED)
  const common = replica === undefined ? {} : { __replica__: replica }
  const fleet = makeFleet(seriesCount, random, common, names)
  const values = fleet.map(({ motion, pace }) =>
    motion === 'constant' ? pace : Math.floor(random.next() * pace * 100),
  )
  const file = path.join(
    folder,
    `bodies-${seriesCount}-${scrapeCount}${replica === undefined ? '' : `-${replica}`}.bin`,
  )
  const out = fs.openSync(file, 'w')
  const bodies: Body[] = []
  const writers = Array.from({ length: connectionCount }, () => new BodyWriter())
  let offset = 0
  let rawBytes = 0
  const flush = (connection: number, isFirstScrape: boolean): void => {
    const writer = writers[connection]!
    if (writer.samples === 0) return
    rawBytes += writer.out.length
    const body = compress(writer.out.view())
    fs.writeSync(out, body)
    bodies.push({ connection, offset, length: body.length, samples: writer.samples, isFirstScrape })
    offset += body.length
    writer.reset()
  }
  for (let scrape = 0; scrape < scrapeCount; scrape++) {
    for (let i = 0; i < fleet.length; i++) {
      const series = fleet[i]!
      if (scrape > 0) values[i] = moved(values[i]!, series, random)
      const connection = i % connectionCount
      const writer = writers[connection]!
      writer.add(series.labels, values[i]!, FIRST_SCRAPE_MS + scrape * scrapeMs + series.offsetMs)
      if (writer.samples === SAMPLES_PER_BODY_MAX) flush(connection, scrape === 0)
    }
    if (scrape === 0) for (let connection = 0; connection < connectionCount; connection++) flush(connection, true)
  }
  for (let connection = 0; connection < connectionCount; connection++) flush(connection, scrapeCount === 1)
  fs.closeSync(out)
  const metricNames = [...new Set(fleet.map(({ name }) => name))]
  const sampleCount = fleet.length * scrapeCount
  const endMs = FIRST_SCRAPE_MS + scrapeCount * scrapeMs
  return { ...options, file, bodies, sampleCount, rawBytes, metricNames, endMs }
}

class BodyWriter {
  readonly out = new Writer(1 << 20)
  samples = 0
  private readonly sample = new Writer(64)
  private readonly value = new Float64Array(1)

  add(labels: Uint8Array, value: number, time: number): void {
    const { sample, out } = this
    sample.reset()
    if (value !== 0) {
      this.value[0] = value
      sample.u8(0x09)
      sample.f64(this.value)
    }
    sample.u8(0x10)
    sample.uvarint(time)
    out.u8(0x0a)
    out.uvarint(labels.length + 2 + sample.length)
    out.bytes(labels)
    out.u8(0x12)
    out.uvarint(sample.length)
    out.bytes(sample.view())
    this.samples++
  }

  reset(): void {
    this.out.reset()
    this.samples = 0
  }
}

function moved(value: number, { motion, pace }: Series, random: Random): number {
  if (motion === 'constant') return value
  if (motion === 'counter') return random.next() < 0.4 ? value : value + random.below(pace)
  if (motion === 'seconds') return random.next() < 0.4 ? value : value + random.next() * pace
  return Math.max(0, Math.round(value + (random.next() - 0.5) * pace * 10))
}

function makeFleet(
  seriesCount: number,
  random: Random,
  common: Readonly<Record<string, string>>,
  names: ReadonlySet<string> | undefined,
): Series[] {
  const fleet: Series[] = []
  for (let pod = 0; fleet.length < seriesCount; pod++) {
    const series: Series[] = []
    addPod(series, pod, random, common)
    fleet.push(...series.filter(({ name }) => names === undefined || names.has(name)))
  }
  fleet.length = seriesCount
  return fleet
}

/** 250 series with 8 to 14 labels. */
function addPod(fleet: Series[], pod: number, random: Random, common: Readonly<Record<string, string>>): void {
  const job = pod % JOBS
  const service = `checkout-service-${job}`
  const target = {
    ...common,
    cluster: `eu-west-1-production-${pod % 3}`,
    container: service,
    environment: 'production',
    instance: `10.42.${pod >> 8}.${pod & 255}:9090`,
    job: `payments/${service}`,
    namespace: `team-payments-${job % 5}`,
    pod: `${service}-${(Math.imul(pod + 1, 2654435761) >>> 0).toString(36)}-${random.below(36 ** 5).toString(36)}`,
  }
  const http = { endpoint: 'http-metrics', service: `${service}-metrics` }
  const offsetMs = random.below(SCRAPE_MS)
  const before = fleet.length
  const add = (name: string, motion: Motion, pace: number, own: Record<string, string> = {}): void => {
    fleet.push({ name, labels: encodeLabels({ __name__: name, ...target, ...own }), motion, pace, offsetMs })
  }
  for (const handler of handlers) {
    for (const method of methods)
      for (const [i, code] of statuses.entries())
        add('http_server_requests_total', 'counter', i < 2 ? 500 : 5, { ...http, code, handler, method })
    for (const method of methods.slice(0, 2)) {
      const own = { ...http, handler, method }
      const name = 'http_server_request_duration_seconds'
      for (const [i, le] of bounds.entries()) add(`${name}_bucket`, 'counter', 20 + i * 40, { ...own, le })
      add(`${name}_sum`, 'seconds', 50, own)
      add(`${name}_count`, 'counter', 500, own)
    }
  }
  add('app_build_info', 'constant', 1, { revision: `f${job}c0ffee`, version: `1.${job % 4}.0` })
  for (const name of gauges) add(name, 'gauge', 1 << 20)
  for (const name of constants) add(name, 'constant', 1 + random.below(1000))
  for (let queue = 0; fleet.length < before + POD_SERIES; queue++) {
    const own = { queue: `orders-to-ship-${queue >> 1}` }
    if (queue % 2 === 0) add('app_queue_length', 'gauge', 50, own)
    else add('app_queue_processed_total', 'counter', 100, own)
  }
}

function encodeLabels(labels: Record<string, string>): Uint8Array {
  const out = new Writer(512)
  for (const name of Object.keys(labels).sort()) {
    const label = new Writer(128)
    label.u8(0x0a)
    label.text(name)
    label.u8(0x12)
    label.text(labels[name]!)
    out.u8(0x0a)
    out.uvarint(label.length)
    out.bytes(label.view())
  }
  return out.finish()
}
