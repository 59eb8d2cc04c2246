// `npm run bench`: Carillon as `npm start` runs it beside a real Prometheus, on the same bodies and questions, in turns.
import fs from 'node:fs'
import os from 'node:os'
import path from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { parseArgs } from 'node:util'
import { argsOf, type Growth, replicaShapes, type Shape, scaleShapes, serverShapes, untilSpread } from './growth.ts'
import { type IngestFigures, ingest } from './ingest.ts'
import { measurePair, type PairFigures, pairArgs } from './pair.ts'
import { askBoth } from './queries.ts'
import { measureReplay, type ReplayFigures } from './replay.ts'
import { aimsOf, type Compared, type Figures, report } from './report.ts'
import { type CarillonTarget, carillon, prometheus, prometheusVersion, type Target } from './target.ts'
import { makeWorkload, type Workload } from './workload.ts'

const usage = `npm run bench -- [flags]
  --prometheus PATH   the Prometheus to compare with (CARILLON_BENCH_PROMETHEUS; else the one on PATH); "none" leaves it out
  --only NAMES        of flat, rate, large (with queries and restart), queries, restart; and, of Carillon alone and only when
                      named: scale, replicas, servers, ha, replay; separated by commas
  --quick             a quarter of the scrapes
  --cpu-prof DIR      CPU profiles of all Node processes of Carillon
  --args "FLAGS"      more flags for carillon start
  --output json       one JSON object instead of tables`

const runNames = [
  'flat',
  'rate',
  'large',
  'queries',
  'restart',
  'scale',
  'replicas',
  'servers',
  'ha',
  'replay',
] as const
type RunName = (typeof runNames)[number]

const connectionCount = 8
const samplesPerSecond = 50_000
const RESTART_MS_MAX = 120_000
/** The whole bench; on a calm machine it takes five minutes. */
const BENCH_MS_MAX = 1_800_000

const { values: flags } = parseArgs({
  options: {
    prometheus: { type: 'string', default: process.env['CARILLON_BENCH_PROMETHEUS'] ?? 'prometheus' },
    only: { type: 'string', default: 'flat,rate,large,queries,restart' },
    quick: { type: 'boolean', default: false },
    'cpu-prof': { type: 'string' },
    args: { type: 'string', default: '' },
    output: { type: 'string', default: 'text' },
    help: { type: 'boolean', default: false },
  },
})
const running = new Set<Target>()
if (flags.help) process.stdout.write(`${usage}\n`)
else await bench(wantedRuns(flags.only))

async function bench(runs: ReadonlySet<RunName>): Promise<void> {
  const folder = fs.mkdtempSync(path.join(os.tmpdir(), 'carillon-bench-'))
  const version = flags.prometheus === 'none' ? 'none' : prometheusVersion(flags.prometheus)
  say(`prometheus ${version}; ${os.availableParallelism()} cores, load ${os.loadavg()[0]!.toFixed(1)}`)
  const figures: Figures = {}
  const giveUp = (why: string) => void abandon(folder, why)
  const timer = setTimeout(giveUp, BENCH_MS_MAX, `not done within ${BENCH_MS_MAX / 60_000} minutes`)
  for (const signal of ['SIGINT', 'SIGTERM'] as const) process.once(signal, giveUp)
  try {
    const scrapes = (count: number) => (flags.quick ? Math.ceil(count / 4) : count)
    if (runs.has('flat') || runs.has('rate')) {
      const workload = made(folder, 50_000, scrapes(40))
      if (runs.has('flat')) figures.flat = await inTurns(folder, 'flat out', workload, 0)
      if (runs.has('rate')) figures.rate = await inTurns(folder, 'at the fixed rate', workload, samplesPerSecond)
      fs.rmSync(workload.file)
    }
    if (runs.has('large') || runs.has('queries') || runs.has('restart'))
      await many(folder, made(folder, 200_000, scrapes(20)), runs, figures)
    await ownRuns(folder, scrapes, runs, figures)
  } finally {
    clearTimeout(timer)
    fs.rmSync(folder, { recursive: true, force: true })
  }
  if (flags.output === 'json') process.stdout.write(`${JSON.stringify({ version, figures, aims: aimsOf(figures) })}\n`)
  else process.stdout.write(`${report(figures)}\n`)
}

/** Ends everything that was started, and the bench. */
async function abandon(folder: string, why: string): Promise<never> {
  say(`given up: ${why}`)
  await Promise.allSettled(Array.from(running, (target) => target.kill()))
  fs.rmSync(folder, { recursive: true, force: true })
  process.exit(1)
}

async function start(target: Target): Promise<void> {
  await target.start()
  running.add(target)
}

async function stop(target: Target): Promise<void> {
  await target.stop()
  running.delete(target)
}

function wantedRuns(text: string): ReadonlySet<RunName> {
  const names = text.split(',').map((name) => name.trim())
  const unknown = names.find((name) => !(runNames as readonly string[]).includes(name))
  if (unknown !== undefined) throw new Error(`--only ${unknown}: there is ${runNames.join(', ')}`)
  return new Set(names as RunName[])
}

function made(folder: string, seriesCount: number, scrapeCount: number, replica?: string): Workload {
  const own = replica === undefined ? {} : { replica }
  const workload = makeWorkload(folder, { seriesCount, scrapeCount, connectionCount, ...own })
  const sizes = [workload.rawBytes, fs.statSync(workload.file).size].map((bytes) => bytes / workload.sampleCount)
  say(
    `${seriesCount} series × ${scrapeCount}: ${sizes[0]!.toFixed(0)} B a sample raw, ${sizes[1]!.toFixed(0)} B snappy`,
  )
  return workload
}

function ownTarget(
  folder: string,
  args: readonly string[] = [],
  command: 'start' | 'cluster' = 'start',
): CarillonTarget {
  return carillon(folder, {
    command,
    ...(flags['cpu-prof'] === undefined ? {} : { cpuProfiles: path.resolve(flags['cpu-prof']) }),
    args: [...args, ...flags.args.split(' ').filter((flag) => flag !== '')],
  })
}

function targets(folder: string): Target[] {
  const ours = ownTarget(folder)
  return flags.prometheus === 'none' ? [ours] : [prometheus(flags.prometheus, folder), ours]
}

/** What concerns Carillon alone. */
async function ownRuns(
  folder: string,
  scrapes: (count: number) => number,
  runs: ReadonlySet<RunName>,
  figures: Figures,
): Promise<void> {
  if (runs.has('scale') || runs.has('replicas') || runs.has('servers')) {
    const workload = made(folder, 50_000, scrapes(120))
    if (runs.has('scale')) figures.scale = await growth(folder, workload, scaleShapes)
    if (runs.has('replicas')) figures.replicas = await growth(folder, workload, replicaShapes)
    if (runs.has('servers')) figures.servers = await growth(folder, workload, serverShapes)
    fs.rmSync(workload.file)
  }
  if (runs.has('ha')) figures.pair = await pair(folder, scrapes(80))
  if (runs.has('replay'))
    figures.replays = [await replay(folder, 50_000, scrapes(40)), await replay(folder, 200_000, scrapes(20))]
}

async function growth(folder: string, workload: Workload, shapes: readonly Shape[]): Promise<Growth[]> {
  const growths: Growth[] = []
  for (const shape of shapes) {
    const figures = await alone(ownTarget(folder, argsOf(shape), shape.command), shape.name, async (target) => {
      await untilSpread(target, shape)
      return ingest(target, workload, 0, folder, { isHalved: true })
    })
    growths.push({ name: shape.name, figures })
  }
  return growths
}

async function pair(folder: string, scrapeCount: number): Promise<PairFigures> {
  const elected = made(folder, 50_000, scrapeCount, 'a')
  const other = made(folder, 50_000, scrapeCount, 'b')
  const figures = await alone(ownTarget(folder, pairArgs), 'an HA pair', (target) =>
    measurePair(target, { elected, other }, folder),
  )
  for (const { file } of [elected, other]) fs.rmSync(file)
  return figures
}

async function replay(folder: string, seriesCount: number, scrapeCount: number): Promise<ReplayFigures> {
  const workload = made(folder, seriesCount, scrapeCount)
  const figures = await alone(ownTarget(folder), `replay of ${seriesCount} series`, (target) =>
    measureReplay(target, workload, folder),
  )
  fs.rmSync(workload.file)
  return figures
}

async function alone<T>(
  target: CarillonTarget,
  title: string,
  measure: (target: CarillonTarget) => Promise<T>,
): Promise<T> {
  say(`${title}; load ${os.loadavg()[0]!.toFixed(1)}`)
  try {
    await start(target)
    return await measure(target)
  } finally {
    await stop(target)
  }
}

/** Each target alone, on fresh data. */
async function inTurns(
  folder: string,
  title: string,
  workload: Workload,
  rate: number,
): Promise<Compared<IngestFigures>> {
  const results: { -readonly [name in Target['name']]?: IngestFigures } = {}
  for (const target of targets(folder)) {
    say(`${title}: ${target.name}`)
    try {
      await start(target)
      results[target.name] = await ingest(target, workload, rate, folder)
    } finally {
      await stop(target)
    }
  }
  return results
}

/** Many series: both targets stay up, one idle while the other works, to be asked the same and then killed. */
async function many(folder: string, workload: Workload, runs: ReadonlySet<RunName>, figures: Figures): Promise<void> {
  const both = targets(folder)
  const results: { -readonly [name in Target['name']]?: IngestFigures } = {}
  const restarts: { -readonly [name in Target['name']]?: number } = {}
  try {
    for (const target of both) {
      say(`${workload.seriesCount} series: ${target.name}`)
      await start(target)
      results[target.name] = await ingest(target, workload, 0, folder)
    }
    figures.large = { ...results, seriesCount: workload.seriesCount }
    if (runs.has('queries')) {
      say('queries')
      figures.queries = await askBoth(both, workload)
    }
    if (runs.has('restart')) {
      for (const target of both) {
        say(`restart: ${target.name}`)
        restarts[target.name] = await restart(target, workload)
      }
      figures.restartSeconds = restarts
    }
  } finally {
    for (const target of both) await stop(target)
  }
}

/** Seconds from starting after a kill of everything until all samples are counted. */
async function restart(target: Target, workload: Workload): Promise<number> {
  await target.kill()
  const startMs = performance.now()
  await start(target)
  const seconds = workload.endMs / 1000
  const isWhole = async () =>
    (await count(target, 'count({__name__=~".+"} offset 1ms)', seconds)) === workload.seriesCount
  while (!(await isWhole())) {
    if (performance.now() - startMs > RESTART_MS_MAX) throw new Error(`${target.name}: not all data within 2 minutes`)
    await sleep(50)
  }
  const tookSeconds = (performance.now() - startMs) / 1000
  let samples = 0
  for (const name of workload.metricNames) {
    samples += (await count(target, `sum(count_over_time(${name}[${workload.scrapeCount}m]))`, seconds)) ?? 0
  }
  if (samples !== workload.sampleCount) throw new Error(`${target.name}: ${samples} of ${workload.sampleCount} samples`)
  return tookSeconds
}

async function count(target: Target, query: string, time: number): Promise<number | undefined> {
  const url = new URL(`${target.queryUrl()}/api/v1/query`)
  url.searchParams.set('query', query)
  url.searchParams.set('time', String(time))
  const response = await fetch(url)
  const text = await response.text()
  if (!response.ok) return undefined // it is not ready yet
  const answer = JSON.parse(text) as { data: { result: { value: [number, string] }[] } }
  return Number(answer.data.result[0]?.value[1])
}

function say(line: string): void {
  process.stderr.write(`bench: ${line}\n`)
}
