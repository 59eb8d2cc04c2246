// node services/carillon.mjs run test/bench/size.ts: bytes a sample at rest, after compaction to blocks of two hours, beside a real Prometheus'
// own blocks of the same samples.
import { execFileSync } from 'node:child_process'
import fs from 'node:fs'
import os from 'node:os'
import path from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { parseArgs } from 'node:util'
import { zstdCompressSync } from 'node:zlib'
import { runLoad } from './loader.ts'
import { type CarillonTarget, carillon, prometheus, type Target } from './target.ts'
import { makeWorkload, SCRAPE_MS, type Workload } from './workload.ts'

const usage = `size.ts [flags]: bytes a sample at rest
  --prometheus PATH   the peer, or none (default: $CARILLON_BENCH_PROMETHEUS, else prometheus on the PATH)
  --promtool PATH     adds its analysis of the largest block of each
  --series N          default 5000
  --hours N           default 5: a Prometheus makes a block of two hours when it holds more than three`

const { values: flags } = parseArgs({
  options: {
    prometheus: { type: 'string', default: process.env['CARILLON_BENCH_PROMETHEUS'] ?? 'prometheus' },
    promtool: { type: 'string' },
    series: { type: 'string', default: '5000' },
    hours: { type: 'string', default: '5' },
    help: { type: 'boolean', default: false },
  },
})

const HOUR_MS = 3_600_000
const PART_BYTES = 256 * 1024
const WAIT_MS_MAX = 180_000

interface Size {
  readonly samples: number
  readonly chunkBytes: number
  readonly indexBytes: number
  readonly bytes: number
  /** The chunks in parts of 256 KiB, each packed by itself as the object store does. */
  readonly packedBytes: number
}

if (flags.help) process.stdout.write(`${usage}\n`)
else await bench()

async function bench(): Promise<void> {
  const folder = fs.mkdtempSync(path.join(os.tmpdir(), 'carillon-bench-'))
  const scrapeCount = Math.ceil((Number(flags.hours) * HOUR_MS) / SCRAPE_MS)
  const workload = makeWorkload(folder, { seriesCount: Number(flags.series), scrapeCount, connectionCount: 8 })
  const ours = carillon(folder, { args: ['--segment-min', '1s', '--drop-after', '1s', '--compact-delay', '0s'] })
  try {
    const lines = [
      '| | samples | bytes a sample: chunks | packed | index | all | du |',
      '|---|---|---|---|---|---|---|',
    ]
    await ours.start()
    await load(ours, workload)
    const blocks = await storedBlocks(ours, path.join(folder, 'ours'), workload.sampleCount)
    const whole = blocks.filter(({ size }) => size.samples > 0)
    for (const { ulid, size } of whole) lines.push(lineOf(`Carillon ${ulid}`, size))
    const all = totalOf(whole.map(({ size }) => size))
    lines.push(lineOf('Carillon, all blocks; du: streams of the object store', all, storeBytes(folder) / all.samples))
    if (flags.prometheus !== 'none') {
      const theirs = prometheus(flags.prometheus, folder)
      await theirs.start()
      await load(theirs, workload)
      for (const block of await untilBlocks(path.join(folder, 'prometheus'))) {
        lines.push(lineOf(`Prometheus ${path.basename(block)}`, sizeOf(block), duOf(block) / sizeOf(block).samples))
        analyze(path.dirname(block), path.basename(block))
      }
      await theirs.stop()
    }
    if (whole[0]) analyze(path.join(folder, 'ours'), whole[0].ulid)
    process.stdout.write(`${lines.join('\n')}\n`)
  } finally {
    await ours.stop()
    fs.rmSync(folder, { recursive: true, force: true })
  }
}

/** In stretches, so that no connection runs ahead of the others by more than a Prometheus takes. */
async function load(target: Target, { file, bodies, connectionCount }: Workload): Promise<void> {
  const size = Math.ceil(bodies.length / (2 * Number(flags.hours)))
  for (let from = 0; from < bodies.length; from += size) {
    const part = bodies.slice(from, from + size)
    await runLoad({ url: target.pushUrl(), file, connectionCount, bodies: part, rate: 0 })
  }
}

interface Entry {
  readonly ulid: string
  readonly minTime: number
  readonly maxTime: number
  readonly sampleCount: number
}

/** Flushed, compacted, and downloaded as files. */
async function storedBlocks(target: CarillonTarget, folder: string, samples: number) {
  await post(`${target.queryUrl()}/api/v1/admin/flush?wait=60s`)
  for (const endMs = performance.now() + WAIT_MS_MAX; performance.now() < endMs; await sleep(500)) {
    const { isDone } = (await post(`${target.queryUrl()}/api/v1/admin/compact`)) as { isDone?: boolean }
    const listed = (await get(`${target.queryUrl()}/api/v1/blocks`)) as { blocks: Entry[] }
    const stored = listed.blocks.reduce((sum, { sampleCount }) => sum + sampleCount, 0)
    if (isDone !== true || stored !== samples) continue
    const sizes: { ulid: string; size: Size }[] = []
    for (const { ulid } of listed.blocks) {
      await download(target, ulid, path.join(folder, ulid))
      sizes.push({ ulid, size: sizeOf(path.join(folder, ulid)) })
    }
    return sizes
  }
  throw new Error('not everything stands in blocks')
}

async function download(target: CarillonTarget, ulid: string, folder: string): Promise<void> {
  fs.mkdirSync(path.join(folder, 'chunks'), { recursive: true })
  const base = `${target.queryUrl()}/api/v1/blocks/${ulid}/files`
  const fetched = async (name: string): Promise<Buffer> => {
    const response = await fetch(`${base}/${name}`)
    if (!response.ok) throw new Error(`${name} of ${ulid} was answered ${response.status}`)
    return Buffer.from(await response.arrayBuffer())
  }
  const meta = await fetched('meta.json')
  fs.writeFileSync(path.join(folder, 'meta.json'), meta)
  const { carillon: own } = JSON.parse(meta.toString()) as { carillon: { files: { name: string }[] } }
  for (const { name } of own.files) fs.writeFileSync(path.join(folder, name), await fetched(name))
}

async function untilBlocks(folder: string): Promise<string[]> {
  for (const endMs = performance.now() + WAIT_MS_MAX; performance.now() < endMs; await sleep(1_000)) {
    const blocks = fs.readdirSync(folder).filter((name) => fs.existsSync(path.join(folder, name, 'meta.json')))
    if (blocks.length > 0) return blocks.map((name) => path.join(folder, name))
  }
  throw new Error('Prometheus made no block')
}

function sizeOf(block: string): Size {
  const bytesOf = (name: string) => fs.statSync(path.join(block, name)).size
  const { stats } = JSON.parse(fs.readFileSync(path.join(block, 'meta.json'), 'utf8')) as {
    stats: { numSamples?: number }
  }
  const chunkBytes = fs
    .readdirSync(path.join(block, 'chunks'))
    .reduce((sum, name) => sum + bytesOf(`chunks/${name}`), 0)
  const packedBytes = fs
    .readdirSync(path.join(block, 'chunks'))
    .reduce((sum, name) => sum + packed(fs.readFileSync(path.join(block, 'chunks', name))), 0)
  const indexBytes = bytesOf('index')
  const bytes = chunkBytes + indexBytes + bytesOf('meta.json')
  return { samples: stats.numSamples ?? 0, chunkBytes, indexBytes, bytes, packedBytes }
}

function packed(bytes: Uint8Array): number {
  let sum = 0
  for (let at = 0; at < bytes.length; at += PART_BYTES) {
    const part = bytes.subarray(at, at + PART_BYTES)
    sum += Math.min(part.length, zstdCompressSync(part).length)
  }
  return sum
}

function totalOf(sizes: readonly Size[]): Size {
  const sum = (of: (size: Size) => number) => sizes.reduce((total, size) => total + of(size), 0)
  return {
    samples: sum((size) => size.samples),
    chunkBytes: sum((size) => size.chunkBytes),
    indexBytes: sum((size) => size.indexBytes),
    bytes: sum((size) => size.bytes),
    packedBytes: sum((size) => size.packedBytes),
  }
}

/** What the streams that hold blocks take on the disk. */
function storeBytes(folder: string): number {
  const streams = fs.readdirSync(path.join(folder, 'carillon'), { recursive: true, withFileTypes: true })
  return streams
    .filter((entry) => entry.isDirectory() && /^OBJ_.*blocks/.test(entry.name))
    .reduce((sum, entry) => sum + duOf(path.join(entry.parentPath, entry.name)), 0)
}

function duOf(folder: string): number {
  return Number(execFileSync('du', ['-s', '--block-size=1', folder], { encoding: 'utf8' }).split('\t')[0])
}

function analyze(folder: string, ulid: string): void {
  if (flags.promtool === undefined) return
  process.stderr.write(execFileSync(flags.promtool, ['tsdb', 'analyze', folder, ulid], { encoding: 'utf8' }))
}

function lineOf(name: string, { samples, chunkBytes, packedBytes, indexBytes, bytes }: Size, du?: number): string {
  const per = (count: number) => (count / samples).toFixed(2)
  return `| ${name} | ${samples} | ${per(chunkBytes)} | ${per(packedBytes)} | ${per(indexBytes)} | ${per(bytes)} | ${du === undefined ? '' : du.toFixed(2)} |`
}

async function post(url: string): Promise<unknown> {
  return answerOf(await fetch(url, { method: 'POST' }), url)
}

async function get(url: string): Promise<unknown> {
  return answerOf(await fetch(url), url)
}

async function answerOf(response: Response, url: string): Promise<unknown> {
  if (!response.ok) throw new Error(`${url} was answered ${response.status}: ${await response.text()}`)
  return ((await response.json()) as { data: unknown }).data
}
