// node services/carillon.mjs run test/bench/flush.ts: what a flush costs those who write and ask meanwhile. History first, as fast as it is taken; then a steady rate and a
// small query ten times a second, without a flush and while one is at work.
import fs from 'node:fs'
import os from 'node:os'
import path from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { parseArgs } from 'node:util'
import { percentile, runLoad } from './loader.ts'
import { treeUse } from './process-tree.ts'
import { type CarillonTarget, carillon } from './target.ts'
import { type Body, makeWorkload, type Workload } from './workload.ts'

const usage = `flush.ts [flags]: pushes and queries during a flush
  --series N     default 20000
  --rate N       samples a second, default 20000
  --history N    scrapes that are there when the steady rate begins, default 240
  --rounds N     flushes, default 3`

const { values: flags } = parseArgs({
  options: {
    series: { type: 'string', default: '20000' },
    rate: { type: 'string', default: '20000' },
    history: { type: 'string', default: '240' },
    rounds: { type: 'string', default: '3' },
    help: { type: 'boolean', default: false },
  },
})

const CONNECTIONS = 8
const STEADY_MS = 10_000
const STRETCH_MS = 2_000
const FLUSH_MS_MAX = 120_000
const QUERY_EVERY_MS = 100
const QUERY = 'go_goroutines{instance="10.42.0.9:9090"}'

/** What was seen while a phase lasted. */
interface Phase {
  readonly pushes: number[]
  readonly queries: number[]
  seconds: number
  cpuSeconds: number
  ingesterSeconds: number
  /** The longest that the ingester's event loop stood still. */
  stopMs: number
}

if (flags.help) process.stdout.write(`${usage}\n`)
else await bench()

async function bench(): Promise<void> {
  const folder = fs.mkdtempSync(path.join(os.tmpdir(), 'carillon-bench-'))
  const rate = Number(flags.rate)
  const historyScrapes = Number(flags.history)
  const rounds = Number(flags.rounds)
  const steadyScrapes = Math.ceil(((STEADY_MS + 30_000) * rate * rounds) / 1000 / Number(flags.series))
  const loops = path.join(folder, 'loops')
  const workload = makeWorkload(folder, {
    seriesCount: Number(flags.series),
    scrapeCount: historyScrapes * rounds + steadyScrapes,
    connectionCount: CONNECTIONS,
  })
  const nodeOptions = `--import=${path.join(import.meta.dirname, 'loop-watch.ts')}`
  const args = ['--segment-min', '1s', '--drop-after', '1s']
  const env = { NODE_OPTIONS: nodeOptions, BENCH_LOOPS: loops }
  const target = carillon(folder, { args, env })
  const feed = feedOf(workload)
  try {
    process.stderr.write(`bench: load ${os.loadavg()[0]!.toFixed(1)}\n`)
    await target.start()
    const phases: { name: string; phase: Phase; flushed: number }[] = []
    for (let round = 1; round <= rounds; round++) {
      const history = feed.take(historyScrapes * Number(flags.series))
      const order = { url: target.pushUrl(), file: workload.file, connectionCount: CONNECTIONS }
      await runLoad({ ...order, bodies: history, rate: 0 })
      await sleep(2_000)
      const watch = { target, workload, feed, rate, loops }
      phases.push({ name: `${round}: steady`, phase: await observe(watch, () => sleep(STEADY_MS)), flushed: 0 })
      let flushed = 0
      const flush = async () => {
        flushed = await flushAll(target)
      }
      phases.push({ name: `${round}: flush`, phase: await observe(watch, flush), flushed })
    }
    print(phases)
  } finally {
    await target.stop()
    fs.rmSync(folder, { recursive: true, force: true })
  }
}

/** The bodies of a workload, a stretch at a time. */
function feedOf({ bodies }: Workload): { take(samples: number): Body[] } {
  let at = 0
  return {
    take(samples) {
      const taken: Body[] = []
      for (let count = 0; count < samples && at < bodies.length; at++) {
        taken.push(bodies[at]!)
        count += bodies[at]!.samples
      }
      if (taken.length === 0) throw new Error('the workload is used up')
      return taken
    },
  }
}

interface Watch {
  readonly target: CarillonTarget
  readonly workload: Workload
  readonly feed: { take(samples: number): Body[] }
  readonly rate: number
  readonly loops: string
}

/** Writes at the steady rate and asks while `during` lasts. */
async function observe({ target, workload, feed, rate, loops }: Watch, during: () => Promise<unknown>): Promise<Phase> {
  const phase: Phase = { pushes: [], queries: [], seconds: 0, cpuSeconds: 0, ingesterSeconds: 0, stopMs: 0 }
  const ingester = target.actorPid('ingester-1')
  const startedMs = performance.now()
  const startedAt = Date.now()
  const before = cpuOf(target.pid(), ingester)
  let isOver = false
  const write = async () => {
    while (!isOver) {
      const bodies = feed.take((rate * STRETCH_MS) / 1000)
      const order = { url: target.pushUrl(), file: workload.file, connectionCount: CONNECTIONS, bodies, rate }
      phase.pushes.push(...(await runLoad(order)).latencies)
    }
  }
  const ask = async () => {
    const url = `${target.queryUrl()}/api/v1/query?query=${encodeURIComponent(QUERY)}&time=${workload.endMs / 1000}`
    for (; !isOver; await sleep(QUERY_EVERY_MS)) {
      const askedMs = performance.now()
      const response = await fetch(url)
      await response.text()
      if (!response.ok) throw new Error(`a query was answered ${response.status}`)
      phase.queries.push(performance.now() - askedMs)
    }
  }
  const over = during().finally(() => {
    isOver = true
  })
  await Promise.all([over, write(), ask()])
  const after = cpuOf(target.pid(), ingester)
  phase.seconds = (performance.now() - startedMs) / 1000
  phase.cpuSeconds = after.all - before.all
  phase.ingesterSeconds = after.ingester - before.ingester
  phase.stopMs = longestStop(loops, ingester, startedAt)
  phase.pushes.sort((a, b) => a - b)
  phase.queries.sort((a, b) => a - b)
  return phase
}

function cpuOf(root: number, ingester: number): { all: number; ingester: number } {
  const uses = treeUse(root)
  const own = uses.find(({ pid }) => pid === ingester)?.cpuSeconds ?? 0
  return { all: uses.reduce((sum, { cpuSeconds }) => sum + cpuSeconds, 0), ingester: own }
}

function longestStop(file: string, pid: number, sinceMs: number): number {
  let longest = 0
  for (const line of fs.readFileSync(file, 'utf8').split('\n')) {
    const [of, at, ms] = line.split(' ').map(Number)
    if (of === pid && at! >= sinceMs) longest = Math.max(longest, ms!)
  }
  return longest
}

interface Owner {
  readonly flushed: number
  readonly mark: number
  readonly sampleCount: number
}

/** Until everything that stood in memory stands in blocks; answers how many samples that were. */
async function flushAll(target: CarillonTarget): Promise<number> {
  const before = await ownersOf(target)
  const response = await fetch(`${target.queryUrl()}/api/v1/admin/flush`, { method: 'POST' })
  if (!response.ok) throw new Error(`the flush was answered ${response.status}: ${await response.text()}`)
  for (const endMs = performance.now() + FLUSH_MS_MAX; performance.now() < endMs; await sleep(50)) {
    const now = await ownersOf(target)
    const isDone = now.every(({ flushed, sampleCount }, i) => {
      return flushed > before[i]!.flushed && sampleCount < before[i]!.sampleCount / 2
    })
    if (isDone) return before.reduce((sum, { sampleCount }) => sum + sampleCount, 0)
  }
  throw new Error('the flush did not end')
}

async function ownersOf(target: CarillonTarget): Promise<Owner[]> {
  const response = await fetch(`${target.queryUrl()}/api/v1/status/partitions`)
  const { data } = (await response.json()) as { data: { partitions: { owners: Owner[] }[] } }
  return data.partitions.flatMap(({ owners }) => owners.slice(0, 1))
}

function print(phases: readonly { name: string; phase: Phase; flushed: number }[]): void {
  const lines = [
    '| | s | push p50 ms | p99 | query p50 ms | p99 | longest stop of the ingester ms | CPU-s per million samples flushed: ingester | all |',
    '|---|---|---|---|---|---|---|---|---|',
  ]
  let rest = { ingester: 0, all: 0 }
  for (const { name, phase, flushed } of phases) {
    const { pushes, queries, seconds, cpuSeconds, ingesterSeconds, stopMs } = phase
    if (flushed === 0) rest = { ingester: ingesterSeconds / seconds, all: cpuSeconds / seconds }
    const per = (used: number, atRest: number) =>
      flushed === 0 ? '' : ((used - atRest * seconds) / (flushed / 1e6)).toFixed(2)
    const ms = (values: readonly number[], share: number) => percentile(values, share).toFixed(1)
    lines.push(
      `| ${name} | ${seconds.toFixed(1)} | ${ms(pushes, 0.5)} | ${ms(pushes, 0.99)} | ${ms(queries, 0.5)} | ${ms(queries, 0.99)} | ` +
        `${stopMs.toFixed(0)} | ${per(ingesterSeconds, rest.ingester)} | ${per(cpuSeconds, rest.all)} |`,
    )
  }
  process.stdout.write(`${lines.join('\n')}\n`)
}
