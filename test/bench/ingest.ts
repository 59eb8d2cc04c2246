// One ingest run on a target: the first scrape and the steady state apart, each until the target is idle again.
import fs from 'node:fs'
import path from 'node:path'
import type { LoadResult } from './load.ts'
import { percentile, runLoad } from './loader.ts'
import { MemoryWatch, treeUse, untilIdle } from './process-tree.ts'
import type { Target } from './target.ts'
import type { Body, Workload } from './workload.ts'

export interface IngestPart {
  readonly samples: number
  readonly cpuPerMillion: number
  readonly samplesPerSecond: number
}

export interface LogFigures {
  /** By the distributors' own counters. */
  readonly bytesPerSample: number
  readonly bytesPerDefinition: number
  readonly samplesPerBatch: number
  /** What the steady state added to the data folder, bytes a sample. */
  readonly diskBytesPerSample: number
}

export interface IngestFigures {
  readonly all: IngestPart
  readonly first: IngestPart
  readonly steady: IngestPart
  /** The second half of the steady state, where it was measured apart: by then every process has compiled what it needs. */
  readonly settled?: IngestPart
  /** CPU seconds per million samples, by role: of the settled half where there is one, else of the whole run. */
  readonly cpuByRole: Readonly<Record<string, number>>
  readonly ackMs: { readonly p50: number; readonly p99: number; readonly max: number }
  readonly retries: number
  readonly behindMs: number
  readonly rssBytes: number
  readonly pssBytes: number
  readonly pssByRole: Readonly<Record<string, number>>
  readonly log?: LogFigures
}

export async function ingest(
  target: Target,
  workload: Workload,
  rate: number,
  folder: string,
  { isHalved = false } = {},
): Promise<IngestFigures> {
  const root = target.pid()
  const memory = new MemoryWatch(root)
  const before = cpuByPid(target)
  const idleBefore = await untilIdle(root, target.idleShareMax)
  const countsBefore = await logCounts(target, folder)
  const { file, connectionCount } = workload
  const send = (bodies: readonly Body[]) => runLoad({ url: target.pushUrl(), file, connectionCount, bodies, rate })
  const later = workload.bodies.filter(({ isFirstScrape }) => !isFirstScrape)
  const half = isHalved ? later.length >> 1 : 0
  const first = await send(workload.bodies.filter(({ isFirstScrape }) => isFirstScrape))
  const idleBetween = await untilIdle(root, target.idleShareMax)
  const countsBetween = await logCounts(target, folder)
  const warming = half > 0 ? await send(later.slice(0, half)) : undefined
  const idleHalfway = half > 0 ? await untilIdle(root, target.idleShareMax) : idleBetween
  const halfway = half > 0 ? cpuByPid(target) : before
  const last = await send(later.slice(half))
  const idleAfter = await untilIdle(root, target.idleShareMax)
  const countsAfter = await logCounts(target, folder)
  const steady = warming === undefined ? last : joined(warming, last)
  const { rssBytes, pssBytes, perProcess } = memory.stop()
  const samples = first.samples + steady.samples
  const byRoleMillions = (half > 0 ? last.samples : samples) / 1e6
  return {
    all: {
      samples,
      cpuPerMillion: (idleAfter - idleBefore) / (samples / 1e6),
      samplesPerSecond: samples / (first.seconds + steady.seconds),
    },
    first: part(first, idleBetween - idleBefore),
    steady: part(steady, idleAfter - idleBetween),
    ...(half > 0 && { settled: part(last, idleAfter - idleHalfway) }),
    cpuByRole: byRole(target, cpuByPid(target), (cpu, pid) => (cpu - (halfway.get(pid) ?? 0)) / byRoleMillions),
    ackMs: {
      p50: percentile(steady.latencies, 0.5),
      p99: percentile(steady.latencies, 0.99),
      max: percentile(steady.latencies, 1),
    },
    retries: first.retries + steady.retries,
    behindMs: Math.max(first.behindMs, steady.behindMs),
    rssBytes,
    pssBytes,
    pssByRole: byRole(target, perProcess, (bytes) => bytes),
    ...logFigures(countsBefore, countsBetween, countsAfter, steady.samples),
  }
}

function part({ samples, seconds }: { samples: number; seconds: number }, cpuSeconds: number): IngestPart {
  return { samples, cpuPerMillion: cpuSeconds / (samples / 1e6), samplesPerSecond: samples / seconds }
}

function joined(one: LoadResult, other: LoadResult): LoadResult {
  return {
    samples: one.samples + other.samples,
    requests: one.requests + other.requests,
    retries: one.retries + other.retries,
    seconds: one.seconds + other.seconds,
    behindMs: Math.max(one.behindMs, other.behindMs),
    latencies: [...one.latencies, ...other.latencies].sort((a, b) => a - b),
  }
}

function cpuByPid(target: Target): Map<number, number> {
  return new Map(treeUse(target.pid()).map(({ pid, cpuSeconds }) => [pid, cpuSeconds]))
}

function byRole(
  target: Target,
  values: ReadonlyMap<number, number>,
  of: (value: number, pid: number) => number,
): Record<string, number> {
  const sums: Record<string, number> = {}
  for (const [pid, value] of values) sums[target.roleOf(pid)] = (sums[target.roleOf(pid)] ?? 0) + of(value, pid)
  return sums
}

interface LogCounts {
  readonly bytes: number
  readonly definitionBytes: number
  readonly definitions: number
  readonly batches: number
  readonly diskBytes: number
}

async function logCounts(target: Target, folder: string): Promise<LogCounts | undefined> {
  if (target.name !== 'carillon') return undefined
  const text = await (await fetch(`${target.queryUrl()}/metrics`)).text()
  const count = (name: string): number => {
    const lines = text.matchAll(new RegExp(`^${name}(?:\\{[^}]*\\})? (\\S+)`, 'gm'))
    return Array.from(lines, ([, value]) => Number(value)).reduce((sum, value) => sum + value, 0)
  }
  return {
    bytes: count('carillon_log_batch_bytes_total'),
    definitionBytes: count('carillon_log_definition_bytes_total'),
    definitions: count('carillon_log_definitions_total'),
    batches: count('carillon_log_batches_total'),
    diskBytes: folderBytes(path.join(folder, 'carillon', 'nats')),
  }
}

function logFigures(
  before: LogCounts | undefined,
  between: LogCounts | undefined,
  after: LogCounts | undefined,
  steadySamples: number,
): { log?: LogFigures } {
  if (!before || !between || !after) return {}
  const { bytes, definitionBytes, batches, diskBytes } = between
  return {
    log: {
      bytesPerSample: (after.bytes - bytes) / steadySamples,
      bytesPerDefinition: (definitionBytes - before.definitionBytes) / (between.definitions - before.definitions),
      samplesPerBatch: steadySamples / (after.batches - batches),
      diskBytesPerSample: (after.diskBytes - diskBytes) / steadySamples,
    },
  }
}

function folderBytes(folder: string): number {
  return fs.readdirSync(folder, { recursive: true, withFileTypes: true }).reduce((sum, entry) => {
    if (!entry.isFile()) return sum
    return sum + (fs.statSync(path.join(entry.parentPath, entry.name), { throwIfNoEntry: false })?.size ?? 0)
  }, 0)
}
