// What the way from a compressed body to its samples costs, in CPU seconds per million samples, on bodies like a sender's: 2000
// series of 8 to 14 labels, one sample each, about 680 kB raw.
import { crc32c } from '../../shared/wire/crc32c.ts'
import { hashBytes } from '../../shared/wire/label-region.ts'
import { readWriteV1, readWriteV2 } from '../../shared/wire/remote-write.ts'
import { encodeWriteV1, encodeWriteV2, type PlainSeries } from '../../shared/wire/remote-write-encode.ts'
import { compress, createDecompressor } from '../../shared/wire/snappy.ts'
import type { WriteSink } from '../../shared/wire/write-sink.ts'

const LENGTH_MAX = 32 << 20
const SERIES = 2000
const ROUNDS = Number(process.argv[2] ?? 300)

const series: PlainSeries[] = Array.from({ length: SERIES }, (_, i) => {
  const labels = ['__name__', `http_server_request_duration_seconds_${['bucket', 'count', 'sum'][i % 3]}`]
  labels.push('cluster', `eu-west-1-prod-${i % 3}`, 'container', `checkout-service-${i % 17}`)
  labels.push(
    'endpoint',
    'http-metrics',
    'instance',
    `10.42.${i % 250}.${(i * 7) % 250}:9090`,
    'job',
    `payments/checkout-${i % 5}`,
  )
  if (i % 3 === 0) labels.push('le', ['0.005', '0.01', '0.025', '0.1', '+Inf'][i % 5]!)
  labels.push('method', ['GET', 'POST', 'PUT'][i % 3]!, 'namespace', `team-payments-${i % 9}`)
  labels.push('pod', `checkout-service-${(i * 2654435761) % 4294967296}-x${i % 97}k2p`)
  if (i % 2 === 0) labels.push('route', `/api/v1/orders/{id}/items/${i % 40}`, 'service', 'checkout-metrics')
  if (i % 4 === 0) labels.push('status', '200', 'zone', `eu-west-1${'abc'[i % 3]}`)
  return {
    labels,
    samples: [{ time: 1_780_000_000_000 + (i % 15_000), value: i % 4 === 0 ? 0 : Math.round(i * 1234.5) / 8 }],
  }
})

const times = new Float64Array(SERIES)
const values = new Float64Array(SERIES)
let count = 0
let hash = 0
let isHashing = false
const sink: WriteSink = {
  series(labels, start, end) {
    if (isHashing) hash ^= hashBytes(labels, start, end)
    return true
  },
  float(time, slot) {
    times[count] = time
    values[count++] = slot[0]!
  },
  histogram() {},
  exemplar() {},
  refused() {},
  exemplarRefused() {},
  metadata() {},
  seriesEnd() {},
}

function measure(name: string, rawBytes: number, run: () => void): void {
  for (let i = 0; i < 30; i++) run()
  const before = process.cpuUsage()
  for (let i = 0; i < ROUNDS; i++) run()
  const used = process.cpuUsage(before)
  const seconds = (used.user + used.system) / 1e6
  const perMillion = (seconds / (ROUNDS * SERIES)) * 1e6
  const gigabytes = (rawBytes * ROUNDS) / 1e9
  console.log(
    `${name.padEnd(36)} ${perMillion.toFixed(4)} CPU-s/M samples  ${(seconds / gigabytes).toFixed(3)} CPU-s/GB`,
  )
}

const decompressor = createDecompressor()
for (const [version, raw, read] of [
  ['1.0', encodeWriteV1({ series }), readWriteV1],
  ['2.0', encodeWriteV2({ series }), readWriteV2],
] as const) {
  const body = compress(raw)
  console.log(`remote write ${version}: ${raw.length} bytes raw, ${body.length} compressed, ${SERIES} series`)
  measure('decompress', raw.length, () => decompressor.decompress(body, LENGTH_MAX))
  const walk = () => {
    count = 0
    read(raw, sink)
  }
  isHashing = false
  measure('walk', raw.length, walk)
  isHashing = true
  measure('walk + hash of labels', raw.length, walk)
  isHashing = false
  measure('decompress + walk', raw.length, () => {
    count = 0
    read(decompressor.decompress(body, LENGTH_MAX), sink)
  })
  measure('crc32c', raw.length, () => {
    hash ^= crc32c(raw)
  })
}
if (count !== SERIES) throw new Error(`${count} samples were told, not ${SERIES}`)
if (hash === 1) console.log('')
