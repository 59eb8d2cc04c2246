// What blocks cost: `node test/bench/block.ts [series] [samples]`. CPU seconds per million samples to write and to read, bytes a sample,
// memory; and the same samples in a block made by promtool, when one is on the PATH and there are few enough of them.
//
// Series look like a scrape's (ten labels; counters that move, constants, gauges with two decimals), every 15 seconds.
import { execFileSync } from 'node:child_process'
import {
  appendFileSync,
  mkdirSync,
  mkdtempSync,
  openSync,
  readdirSync,
  readSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { compareLabels, type Labels, labelsFrom } from '../../shared/model/labels.ts'
import { decodeBlockChunk } from '../../shared/tsdb/block/chunk-samples.ts'
import type { BlockFiles } from '../../shared/tsdb/block/files.ts'
import { type BlockStats, blockMeta, metaBytes } from '../../shared/tsdb/block/meta.ts'
import { BlockReader } from '../../shared/tsdb/block/reader.ts'
import { verifyBlock } from '../../shared/tsdb/block/verify.ts'
import { BlockWriter } from '../../shared/tsdb/block/writer.ts'
import { SampleColumns } from '../../shared/tsdb/columns.ts'

const seriesCount = Number(process.argv[2] ?? 20_000)
const sampleCount = Number(process.argv[3] ?? 480)
const START = 1_700_006_400_000 // a multiple of two hours
const PROMTOOL_SAMPLES_MAX = 5_000_000
const dir = mkdtempSync(join(tmpdir(), 'carillon-bench-block-'))
process.on('exit', () => rmSync(dir, { recursive: true }))

const every = Array.from({ length: seriesCount }, (_, i) => ({ labels: labelsOf(i), i })).sort((a, b) =>
  compareLabels(a.labels, b.labels),
)
const samples = new SampleColumns(sampleCount)
const millions = (seriesCount * sampleCount) / 1e6
let memoryMax = 0

let makeSeconds = 0
const wholeSeconds = cpu()
const stats = await write()
const writeSeconds = cpu() - wholeSeconds - makeSeconds
console.log(`${seriesCount} series × ${sampleCount} samples: ${stats.chunkCount} chunks, ${stats.files.length} files`)
console.log(`write        ${perMillion(writeSeconds)} CPU s per million samples, ${mb(memoryMax)} MB resident at most`)
const index = stats.files.find(({ name }) => name === 'index')!.size
console.log(
  `size         ${((stats.bytes - index) / millions / 1e6).toFixed(3)} bytes a sample in chunks, ${(stats.bytes / millions / 1e6).toFixed(3)} with the index (${Math.round(index / seriesCount)} a series)`,
)

const meta = blockMeta({ tenant: 'bench', stats, origin: { kind: 'flush' }, level: 1 })
writeFileSync(join(dir, 'meta.json'), metaBytes(meta))
const files = directoryFiles()
let reader: BlockReader | undefined
const openSeconds = await timed(async () => {
  reader = await BlockReader.open(files, meta)
})
console.log(`open         ${(openSeconds * 1000).toFixed(0)} CPU ms, then ${mb(reader!.bytes)} MB`)
memoryMax = 0
let read = 0
const scanSeconds = await timed(async () => {
  for await (const batch of reader!.allSeries()) {
    note()
    for (const { chunks } of batch) for (const { count } of chunks) read += count
  }
})
console.log(
  `read all     ${perMillion(scanSeconds)} CPU s per million samples, ${mb(memoryMax)} MB resident at most (${read === stats.sampleCount})`,
)
const decodeSeconds = await timed(async () => {
  for await (const batch of reader!.allSeries()) {
    for (const { chunks } of batch) {
      samples.clear()
      for (const chunk of chunks) decodeBlockChunk(chunk, samples)
    }
  }
})
console.log(`… decoded    ${perMillion(decodeSeconds)}`)
let selected = 0
const selectSeconds = await timed(async () => {
  const matchers = [
    { name: '__name__', operator: '=', value: 'http_metric_7_total' } as const,
    { name: 'code', operator: '=~', value: '4..|500' } as const,
  ]
  for await (const batch of reader!.select(matchers, { startMs: START, endMs: START + 3_600_000 }))
    selected += batch.length
})
console.log(`select       ${(selectSeconds * 1000).toFixed(1)} CPU ms for ${selected} series`)
let problems = 0
const verifySeconds = await timed(async () => {
  for await (const problem of verifyBlock(files, { tenant: 'bench' })) {
    problems++
    console.log(problem)
  }
})
console.log(`verify       ${perMillion(verifySeconds)}, ${problems} problems`)
if (stats.sampleCount <= PROMTOOL_SAMPLES_MAX) comparePromtool()

async function write(): Promise<BlockStats> {
  const writer = new BlockWriter({
    onFile: (name, bytes) => {
      const path = join(dir, name)
      mkdirSync(dirname(path), { recursive: true })
      writeFileSync(path, bytes)
      note()
    },
  })
  for (const { labels, i } of every) {
    const before = cpu()
    fill(i)
    makeSeconds += cpu() - before
    writer.addSeries(labels, samples.asRun())
    await writer.backlog()
  }
  note()
  return writer.finish()
}

function fill(i: number): void {
  samples.clear()
  samples.reserve(sampleCount)
  let value = i
  for (let k = 0; k < sampleCount; k++) {
    if (i % 3 === 0) value += (i * 7 + k * 13) % 11
    else if (i % 3 === 1 && k === 0) value = i
    else if (i % 3 === 2) value = Math.round(Math.abs(Math.sin(i * 12.9898 + k * 78.233)) * 10_000) / 100
    samples.times[k] = START + k * 15_000 + (i % 10 === 0 ? (k * 7) % 3 : 0)
    samples.values[k] = value
  }
  samples.advance(sampleCount)
}

function labelsOf(i: number): Labels {
  return labelsFrom({
    __name__: `http_metric_${i % 500}_total`,
    cluster: 'eu-west-1-production',
    code: ['200', '404', '500'][i % 3]!,
    container: `container-${i % 40}`,
    endpoint: 'metrics',
    instance: `10.0.${i % 200}.${i % 250}:9090`,
    job: `job-${i % 60}`,
    method: ['GET', 'POST'][i % 2]!,
    namespace: `namespace-${i % 30}`,
    pod: `pod-${i}`,
  })
}

/** The same samples through `promtool tsdb create-blocks-from openmetrics`, whose blocks are cut at 120 samples too. */
function comparePromtool(): void {
  const text = join(dir, 'in.om')
  writeFileSync(text, '')
  for (const { labels, i } of every) {
    fill(i)
    const pairs: string[] = []
    for (let l = 2; l < labels.length; l += 2) pairs.push(`${labels[l]}="${labels[l + 1]}"`)
    const lines = Array.from(
      { length: sampleCount },
      (_, k) => `${labels[1]}{${pairs.join()}} ${samples.values[k]} ${samples.times[k]! / 1000}\n`,
    )
    appendFileSync(text, lines.join(''))
  }
  appendFileSync(text, '# EOF\n')
  try {
    execFileSync('promtool', ['tsdb', 'create-blocks-from', 'openmetrics', text, join(dir, 'promtool')], {
      stdio: 'ignore',
    })
  } catch (error) {
    console.log(`promtool     none: ${String(error)}`)
    return
  }
  let bytes = 0
  for (const name of readdirSync(join(dir, 'promtool'), { recursive: true, encoding: 'utf8' })) {
    const info = statSync(join(dir, 'promtool', name))
    if (info.isFile()) bytes += info.size
  }
  console.log(
    `promtool     ${(bytes / millions / 1e6).toFixed(3)} bytes a sample with the index, in ${readdirSync(join(dir, 'promtool')).length} blocks`,
  )
}

function directoryFiles(): BlockFiles {
  const open = new Map<string, number>()
  return {
    size: async (file) => statSync(join(dir, file)).size,
    read: async (file, start, end) => {
      const handle = open.get(file) ?? openSync(join(dir, file), 'r')
      open.set(file, handle)
      const bytes = new Uint8Array(end - start)
      return bytes.subarray(0, readSync(handle, bytes, 0, bytes.length, start))
    },
  }
}

function note(): void {
  memoryMax = Math.max(memoryMax, process.memoryUsage.rss())
}

function cpu(): number {
  const { user, system } = process.cpuUsage()
  return (user + system) / 1e6
}

async function timed(fn: () => Promise<void>): Promise<number> {
  const before = cpu()
  await fn()
  return cpu() - before
}

function perMillion(seconds: number): string {
  return (seconds / millions).toFixed(4)
}

function mb(bytes: number): string {
  return (bytes / 1e6).toFixed(1)
}
