// How fast a head takes floats and gives them back, and what a series costs: `node test/bench/head-append.ts [series] [samples]`.
//
// Series look like a scrape's: 10 labels; counters that move, constants, noisy gauges. A round appends one sample to each series in
// ref order, as batches do.
import { SampleColumns } from '../../shared/tsdb/columns.ts'
import { Head } from '../../shared/tsdb/head/head.ts'
import { StringTable } from '../../shared/tsdb/head/string-table.ts'

const seriesCount = Number(process.argv[2] ?? 50_000)
const sampleCount = Number(process.argv[3] ?? 40)
const samples = seriesCount * sampleCount

const memoryBefore = memory()
const strings = new StringTable()
const head = new Head(strings)

const definedSeconds = timed(() => {
  for (let i = 0; i < seriesCount; i++) head.series(labelRefs(i))
})
let appendSeconds = 0
const values = new Float64Array(seriesCount)
for (let round = 0; round < sampleCount; round++) {
  for (let i = 0; i < seriesCount; i++) values[i] = valueAt(i, round)
  const time = 1_700_000_000_000 + round * 15_000
  appendSeconds += timed(() => {
    for (let ref = 0; ref < seriesCount; ref++)
      head.appendFloat(ref, 1, time + (ref % 100 === 0 ? round % 3 : 0), values, ref)
  })
}
const sink = new SampleColumns(sampleCount)
const range = { startMs: 0, endMs: Number.MAX_SAFE_INTEGER }
const read = (): void => {
  for (let ref = 0; ref < seriesCount; ref++) {
    sink.clear()
    head.readInto(ref, range, sink)
  }
}
read()
const readSeconds = timed(read)
const resendSeconds = timed(() => {
  for (let ref = 0; ref < seriesCount; ref++) head.appendFloat(ref, 1, 1_700_000_000_000, values, ref)
})
const memoryAfter = memory()

const million = (count: number, seconds: number): string => (count / seconds / 1e6).toFixed(2)
console.log(`${seriesCount} series × ${sampleCount} samples`)
console.log(`new series          ${million(seriesCount, definedSeconds)} M per CPU second`)
console.log(`appends             ${million(samples, appendSeconds)} M per CPU second`)
console.log(`reads               ${million(samples, readSeconds)} M samples per CPU second`)
console.log(`late, same time     ${million(seriesCount, resendSeconds)} M per CPU second`)
console.log(`head + strings say  ${Math.round((head.bytes + strings.bytes) / seriesCount)} bytes per series`)
console.log(`the process says    ${Math.round((memoryAfter - memoryBefore) / seriesCount)} bytes per series`)

function labelRefs(i: number): number[] {
  const text: Record<string, string> = {
    __name__: `http_metric_${i % 500}_total`,
    cluster: 'eu-west-1-production',
    code: ['200', '404', '500'][i % 3]!,
    container: `container-${i % 40}`,
    endpoint: 'metrics',
    instance: `10.${(i >> 8) % 256}.${i % 256}.7:9090`,
    job: `job-${i % 20}`,
    namespace: `namespace-${i % 50}`,
    pod: `service-${i % 40}-7f9c6d5b8-${(i % 2000).toString(36)}`,
    serial: `s${i}`,
  }
  return Object.entries(text).flatMap(([name, value]) => [strings.intern(name), strings.intern(value)])
}

function valueAt(i: number, round: number): number {
  if (i % 3 === 0) return i
  return i % 3 === 1 ? i * 100 + round * (1 + (i % 90)) : Math.sin(i + round) * 1000
}

function timed(run: () => void): number {
  const before = process.cpuUsage()
  run()
  const { user, system } = process.cpuUsage(before)
  return (user + system) / 1e6
}

function memory(): number {
  globalThis.gc?.()
  const { heapUsed, arrayBuffers } = process.memoryUsage()
  return heapUsed + arrayBuffers
}
