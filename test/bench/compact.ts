// What merging blocks costs: CPU seconds per million samples and the most memory, beside a Prometheus that compacts the same blocks.
//
//   node test/bench/compact.ts [--series 20000] [--hours 24] [--step 60] [--parts 12] [--overlap 1] [--prometheus PATH] [--folder DIR]
//
// `parts` blocks of equal length follow each other; with `--overlap 2` each comes twice, every other sample of the series in each, as
// blocks of two partitions never do but late data does. `--series 200000` is the run of 288 million samples.
import { spawn, spawnSync } from 'node:child_process'
import fs from 'node:fs'
import os from 'node:os'
import path from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { parseArgs } from 'node:util'
import type { MergeIo, MergeSource } from '../../services/compactor/worker/merge-job.ts'
import { threadMerger } from '../../services/compactor/worker/thread-worker.ts'
import { seededRandom } from '../../shared/base/random.ts'
import { compareLabels, labelsFrom } from '../../shared/model/labels.ts'
import { blockMeta, metaBytes, parseMeta } from '../../shared/tsdb/block/meta.ts'
import { BlockWriter } from '../../shared/tsdb/block/writer.ts'
import { SampleColumns } from '../../shared/tsdb/columns.ts'
import { treeCpuSeconds, treeUse } from './process-tree.ts'

const HOUR_MS = 3_600_000
const HEAP_BYTES_MAX = 768 * 1024 ** 2
const WAIT_MS_MAX = 30 * 60_000

const { values: args } = parseArgs({
  options: {
    role: { type: 'string', default: 'all' },
    series: { type: 'string', default: '20000' },
    hours: { type: 'string', default: '24' },
    step: { type: 'string', default: '60' },
    parts: { type: 'string', default: '12' },
    overlap: { type: 'string', default: '1' },
    part: { type: 'string', default: '0' },
    prometheus: { type: 'string', default: '' },
    folder: { type: 'string', default: '' },
  },
})
const seriesCount = Number(args.series)
const hours = Number(args.hours)
const stepMs = Number(args.step) * 1000
const parts = Number(args.parts)
const overlap = Number(args.overlap)
/** Aligned, and old enough that Prometheus takes nothing for fresh. */
const startMs = Math.floor((Date.now() - 72 * HOUR_MS) / (24 * HOUR_MS)) * 24 * HOUR_MS

// ---- making blocks ----

interface Walk {
  readonly offsetMs: number
  readonly kind: number
  value: number
}

/** One part of all series; the parts of one run go on where the one before ended. */
async function makePart(folder: string, part: number): Promise<void> {
  const random = seededRandom(part + 1)
  const partMs = (hours * HOUR_MS) / parts
  const files = new Map<string, number>()
  const scratch = fs.mkdtempSync(path.join(folder, 'making-'))
  fs.mkdirSync(path.join(scratch, 'chunks'))
  const writer = new BlockWriter({
    onFile(name, bytes) {
      files.set(name, bytes.length)
      fs.writeFileSync(path.join(scratch, name), bytes)
    },
  })
  const columns = new SampleColumns(1024)
  const share = part % overlap
  const from = startMs + Math.floor(part / overlap) * partMs
  for (const [index, labels] of allLabels().entries()) {
    columns.clear()
    const walk: Walk = { offsetMs: (index * 7919) % stepMs, kind: index % 4, value: index }
    for (let i = 0, time = from + walk.offsetMs; time < from + partMs; i++, time += stepMs) {
      const value = nextValue(walk, random)
      if (i % overlap !== share) continue
      columns.reserve(1)
      columns.times[columns.count] = time + (index % 2 === 0 ? 0 : random.below(5))
      columns.values[columns.count] = value
      columns.advance(1)
    }
    writer.addSeries(labels, columns.asRun())
  }
  const stats = await writer.finish()
  const meta = blockMeta({
    tenant: 'bench',
    stats,
    origin: { kind: 'flush', partition: share, segment: part },
    level: 1,
  })
  fs.writeFileSync(path.join(scratch, 'meta.json'), metaBytes({ ...meta, minTime: from, maxTime: from + partMs }))
  fs.renameSync(scratch, path.join(folder, meta.ulid))
}

function allLabels() {
  return Array.from({ length: seriesCount }, (_, i) =>
    labelsFrom({
      __name__: `metric_${i % 100}_total`,
      instance: `host-${String(Math.floor(i / 1000)).padStart(4, '0')}:9100`,
      job: `job-${Math.floor(i / 20_000)}`,
      path: `/api/v${i % 10}/items`,
      code: ['200', '404', '500'][i % 3]!,
      pod: `pod-${(i * 2654435761) % 4294967296}`,
    }),
  ).sort(compareLabels)
}

/** Counters, gauges of two decimals, and what hardly changes. */
function nextValue(walk: Walk, random: ReturnType<typeof seededRandom>): number {
  if (walk.kind < 2) walk.value += random.below(1000)
  else if (walk.kind === 2) walk.value = Math.round((walk.value + random.next() * 10 - 5) * 100) / 100
  else if (random.below(50) === 0) walk.value = random.below(10)
  return walk.value
}

// ---- merging ----

async function merge(folder: string): Promise<void> {
  const sources = blocksIn(folder).map((ulid): MergeSource => {
    const meta = parseMeta(fs.readFileSync(path.join(folder, ulid, 'meta.json')))
    return { ulid, meta, sampleCount: meta.stats.numSamples ?? 0 }
  })
  const out = path.join(folder, 'merged')
  fs.mkdirSync(path.join(out, 'chunks'), { recursive: true })
  const io: MergeIo = {
    size: async (ulid, file) => (await fs.promises.stat(path.join(folder, ulid, file))).size,
    async read(ulid, file, start, end) {
      const handle = await fs.promises.open(path.join(folder, ulid, file))
      try {
        const { buffer, bytesRead } = await handle.read(Buffer.allocUnsafeSlow(end - start), 0, end - start, start)
        return buffer.subarray(0, bytesRead)
      } finally {
        await handle.close()
      }
    },
    write: (_, file, bytes) => fs.promises.writeFile(path.join(out, file), bytes),
  }
  const startedMs = performance.now()
  const cpuBefore = process.cpuUsage()
  const report = await threadMerger({ heapBytesMax: HEAP_BYTES_MAX }).merge(
    { sources, removals: [], keeps: [], resolutionMs: 0 },
    io,
    new AbortController().signal,
  )
  const { user, system } = process.cpuUsage(cpuBefore)
  const { stats } = report.outputs[0]!
  const million = report.samplesIn / 1e6
  const cpuSeconds = (user + system) / 1e6
  console.log(
    JSON.stringify({
      blocks: sources.length,
      series: report.seriesCount,
      millionSamples: round(million),
      chunksPassed: round(report.chunksPassed / report.chunksIn),
      bytesIn: sources.reduce(
        (sum, { meta }) => sum + meta.carillon!.files.reduce((all, { size }) => all + size, 0),
        0,
      ),
      bytesOut: stats.bytes,
      bytesPerSample: round(stats.bytes / stats.sampleCount),
      seconds: round((performance.now() - startedMs) / 1000),
      cpuSeconds: round(cpuSeconds),
      cpuSecondsPerMillion: round(cpuSeconds / million),
      threadCpuSecondsPerMillion: round(report.cpuSeconds / million),
      peakRssMiB: Math.round(process.resourceUsage().maxRSS / 1024),
    }),
  )
}

const blocksIn = (folder: string): string[] => fs.readdirSync(folder).filter((name) => /^[0-9A-Z]{26}$/.test(name))
const round = (value: number): number => Number(value.toPrecision(3))

// ---- Prometheus ----

/** A Prometheus that finds the blocks at its start and compacts them after a minute; an empty one is measured beside it. */
async function prometheus(folder: string): Promise<void> {
  const data = path.join(folder, 'prometheus')
  fs.rmSync(data, { recursive: true, force: true })
  fs.mkdirSync(data)
  let samples = 0
  for (const ulid of blocksIn(folder)) {
    fs.cpSync(path.join(folder, ulid), path.join(data, ulid), { recursive: true })
    samples += parseMeta(fs.readFileSync(path.join(folder, ulid, 'meta.json'))).stats.numSamples ?? 0
  }
  const idle = await runPrometheus(path.join(folder, 'idle'), () => true)
  // Blocks that overlap are merged as they are; others by its own ranges, 2 h, 6 h and 18 h.
  const range = overlap > 1 ? `${hours}h` : '2h'
  const busy = await runPrometheus(data, () => true, [
    `--storage.tsdb.min-block-duration=${range}`,
    `--storage.tsdb.max-block-duration=${hours}h`,
  ])
  const rewritten = writtenBy(data)
  const cpuSeconds = busy.cpuSeconds - idle.cpuSeconds * (busy.seconds / idle.seconds)
  console.log(
    JSON.stringify({
      of: 'prometheus',
      millionSamples: round(samples / 1e6),
      millionSamplesRewritten: round(rewritten / 1e6),
      blocksLeft: blocksIn(data).length,
      cpuSeconds: round(cpuSeconds),
      cpuSecondsPerMillion: round(cpuSeconds / (rewritten / 1e6)),
      peakRssMiB: Math.round(busy.rssBytes / 1024 ** 2),
    }),
  )
}

function metasIn(data: string) {
  return blocksIn(data).map((ulid) => parseMeta(fs.readFileSync(path.join(data, ulid, 'meta.json'))))
}

/** A block of level n went through n − 1 merges. */
const writtenBy = (data: string): number =>
  metasIn(data).reduce((sum, { compaction, stats }) => sum + (compaction.level - 1) * (stats.numSamples ?? 0), 0)

async function runPrometheus(
  data: string,
  isDone: () => boolean,
  flags: readonly string[] = [],
): Promise<{ cpuSeconds: number; seconds: number; rssBytes: number }> {
  const config = path.join(path.dirname(data), 'prometheus.yml')
  fs.writeFileSync(config, 'global: {}\n')
  const child = spawn(
    args.prometheus,
    [
      `--config.file=${config}`,
      `--storage.tsdb.path=${data}`,
      '--storage.tsdb.retention.time=100y',
      ...flags,
      '--web.listen-address=127.0.0.1:0',
    ],
    { stdio: 'ignore' },
  )
  const startedMs = performance.now()
  let rssBytes = 0
  let calmSince = 0
  let before = 0
  const stop = () => performance.now() - startedMs > WAIT_MS_MAX
  for (;;) {
    await sleep(500)
    const [use] = treeUse(child.pid!)
    if (use === undefined) throw new Error('prometheus ended by itself')
    rssBytes = Math.max(rssBytes, use.rssBytes)
    const isCalm = use.cpuSeconds - before < 0.1
    before = use.cpuSeconds
    if (!isCalm) calmSince = performance.now()
    const isPast = performance.now() - startedMs > 75_000 // it looks for the first time after a minute
    if ((isPast && isDone() && performance.now() - calmSince > 5_000) || stop()) break
  }
  const cpuSeconds = treeCpuSeconds(child.pid!)
  const seconds = (performance.now() - startedMs) / 1000
  child.kill('SIGKILL')
  return { cpuSeconds, seconds, rssBytes }
}

// ---- all of it ----

function again(...more: readonly string[]): void {
  const run = spawnSync(process.execPath, [import.meta.filename, ...process.argv.slice(2), ...more], {
    stdio: 'inherit',
  })
  if (run.status !== 0) throw new Error(`a part of the bench ended with ${run.status}`)
}

async function all(): Promise<void> {
  const folder = args.folder === '' ? fs.mkdtempSync(path.join(os.tmpdir(), 'carillon-compact-')) : args.folder
  fs.mkdirSync(folder, { recursive: true })
  try {
    const own = `--folder=${folder}`
    for (let part = 0; part < parts * overlap; part++) again('--role=make', own, `--part=${part}`)
    again('--role=merge', own)
    if (args.prometheus !== '') again('--role=prometheus', own)
  } finally {
    if (args.folder === '') fs.rmSync(folder, { recursive: true, force: true })
  }
}

const run: Record<string, () => Promise<void>> = {
  all,
  make: () => makePart(args.folder, Number(args.part)),
  merge: () => merge(args.folder),
  prometheus: () => prometheus(args.folder),
}
await run[args.role]!()
