// Figures as tables, and the aims they are held against.
import type { Growth } from './growth.ts'
import type { IngestFigures } from './ingest.ts'
import type { PairFigures } from './pair.ts'
import type { QueryFigures } from './queries.ts'
import type { ReplayFigures } from './replay.ts'

export interface Figures {
  flat?: Compared<IngestFigures>
  rate?: Compared<IngestFigures>
  large?: Compared<IngestFigures> & { readonly seriesCount: number }
  restartSeconds?: Compared<number>
  queries?: readonly QueryFigures[]
  scale?: readonly Growth[]
  replicas?: readonly Growth[]
  servers?: readonly Growth[]
  pair?: PairFigures
  replays?: readonly ReplayFigures[]
}

export type Compared<T> = { readonly [name in 'prometheus' | 'carillon']?: T }

export interface Aim {
  readonly name: string
  readonly value: number
  readonly aim: number
  /** Else at least. */
  readonly isAtMost: boolean
  readonly isReached: boolean
}

export const QUERY_MS_MIN = 10

/** What the project has set itself, as far as this run measured it. */
export function aimsOf(figures: Figures): Aim[] {
  const { flat, rate, large, queries } = figures
  const aims: Aim[] = []
  const atMost = (name: string, value: number | undefined, aim: number) => {
    if (value !== undefined) aims.push({ name, value, aim, isAtMost: true, isReached: value <= aim })
  }
  atMost('CPU of Prometheus, flat out, whole run', ratio(flat, wholeCpuOf), 0.45)
  atMost('CPU of Prometheus, at the fixed rate', ratio(rate, wholeCpuOf), 0.55)
  atMost('ack p99 at the fixed rate, ms', rate?.carillon?.ackMs.p99, 25)
  const log = flat?.carillon?.log ?? large?.carillon?.log
  atMost('log bytes per sample, steady', log?.bytesPerSample, 12)
  atMost('log bytes per definition', log?.bytesPerDefinition, 100)
  if (large?.carillon) {
    atMost(
      'KB per active series, all processes, shared pages once',
      large.carillon.pssBytes / 1024 / large.seriesCount,
      4,
    )
  }
  const slow = (queries ?? []).filter(({ ms }) => ms.prometheus > QUERY_MS_MIN)
  if (slow.length > 0) {
    const ratios = slow.map(({ ms }) => ms.carillon / ms.prometheus).sort((a, b) => a - b)
    atMost(
      `time of Prometheus, median of ${slow.length} queries over ${QUERY_MS_MIN} ms`,
      ratios[ratios.length >> 1],
      1,
    )
  }
  const { scale, pair, replays } = figures
  const last = (scale?.length ?? 0) - 1
  atMost(`CPU of 1 ingester, with ${last + 1}, whole run`, scale && growthOf(scale, last, wholeCpuOf), 1.1)
  atMost(`CPU of 1 ingester, with ${last + 1}, settled`, scale && growthOf(scale, last, settledCpuOf), 1.1)
  const dropped = pair && settledCpuOf(pair.dropped) / settledCpuOf(pair.stored)
  atMost('CPU of a stored sample, dropped one of an HA pair, settled', dropped, 0.3)
  for (const { seriesCount, samplesPerCpuSecond } of replays ?? []) {
    const value = samplesPerCpuSecond / 1e6
    const name = `M samples per CPU second of replay, ${seriesCount / 1000}k series`
    aims.push({ name, value, aim: 3, isAtMost: false, isReached: value >= 3 })
  }
  return aims
}

function growthOf(growths: readonly Growth[], index: number, of: (figures: IngestFigures) => number): number {
  return of(growths[index]!.figures) / of(growths[0]!.figures)
}

const wholeCpuOf = ({ all }: IngestFigures): number => all.cpuPerMillion
const settledCpuOf = ({ settled, steady }: IngestFigures): number => (settled ?? steady).cpuPerMillion

function ratio(
  compared: Compared<IngestFigures> | undefined,
  of: (figures: IngestFigures) => number,
): number | undefined {
  if (!compared?.carillon || !compared.prometheus) return undefined
  return of(compared.carillon) / of(compared.prometheus)
}

export function report(figures: Figures): string {
  const parts = [
    figures.flat && `## Flat out\n${ingestTable(figures.flat)}`,
    figures.rate && `## At a fixed rate\n${ingestTable(figures.rate)}`,
    figures.large && `## Many series (${figures.large.seriesCount})\n${ingestTable(figures.large)}`,
    figures.restartSeconds &&
      `## From a kill of everything to all data, s\n${table([
        ['prometheus', 'carillon'],
        [fixed(figures.restartSeconds.prometheus), fixed(figures.restartSeconds.carillon)],
      ])}`,
    figures.queries && `## Queries (ms, median; CPU ms of the server)\n${queryTable(figures.queries)}`,
    figures.scale && `## More ingesters, one owner of each partition\n${growthTable(figures.scale)}`,
    figures.replicas && `## More owners of each partition, three ingesters\n${growthTable(figures.replicas)}`,
    figures.servers && `## Logs kept once and three times\n${growthTable(figures.servers)}`,
    figures.pair &&
      `## Both of an HA pair\n${growthTable([
        { name: 'elected: stored', figures: figures.pair.stored },
        { name: 'other: dropped', figures: figures.pair.dropped },
      ])}`,
    figures.replays && `## Replay\n${replayTable(figures.replays)}`,
    `## Aims\n${table([
      ['what', 'is', 'aim', ''],
      ...aimsOf(figures).map(({ name, value, aim, isAtMost, isReached }) => [
        name,
        fixed(value),
        `${isAtMost ? '<=' : '>='} ${aim}`,
        isReached ? 'reached' : 'NOT REACHED',
      ]),
    ])}`,
  ]
  return parts.filter((part) => part !== undefined).join('\n\n')
}

function ingestTable(compared: Compared<IngestFigures>): string {
  const names = (['prometheus', 'carillon'] as const).filter((name) => compared[name] !== undefined)
  const each = names.map((name) => compared[name]!)
  const row = (title: string, of: (figures: IngestFigures) => string | undefined): string[] => {
    return [title, ...each.map((figures) => of(figures) ?? '-')]
  }
  const roles = (values: Readonly<Record<string, number>>, format: (value: number) => string) =>
    Object.entries(values)
      .map(([role, value]) => `${role} ${format(value)}`)
      .join(', ')
  return table([
    ['', ...names],
    row('CPU-s per million samples, all', ({ all }) => fixed(all.cpuPerMillion)),
    row('… first scrape', ({ first }) => fixed(first.cpuPerMillion)),
    row('… steady', ({ steady }) => fixed(steady.cpuPerMillion)),
    row('… by process', ({ cpuByRole }) => roles(cpuByRole, fixed)),
    row('k samples/s, steady', ({ steady }) => fixed(steady.samplesPerSecond / 1000)),
    row('ack p50 / p99 / max, ms', ({ ackMs }) => `${fixed(ackMs.p50)} / ${fixed(ackMs.p99)} / ${fixed(ackMs.max)}`),
    row('retries; behind, ms', ({ retries, behindMs }) => `${retries}; ${Math.round(behindMs)}`),
    row('peak RSS sum / shared pages once, MB', (f) => `${megabytes(f.rssBytes)} / ${megabytes(f.pssBytes)}`),
    row('… by process', ({ pssByRole }) => roles(pssByRole, megabytes)),
    row(
      'log bytes per sample (disk)',
      ({ log }) => log && `${fixed(log.bytesPerSample)} (${fixed(log.diskBytesPerSample)})`,
    ),
    row('log bytes per definition', ({ log }) => log && fixed(log.bytesPerDefinition)),
    row('samples per batch', ({ log }) => log && fixed(log.samplesPerBatch)),
  ])
}

function growthTable(growths: readonly Growth[]): string {
  const roles = [...new Set(growths.flatMap(({ figures }) => Object.keys(figures.cpuByRole)))]
  return table([
    [
      'CPU-s per million samples',
      'all',
      '× the first',
      'first scrape',
      'settled',
      '× the first',
      ...roles.map((role) => `… ${role}`),
      'k samples/s',
    ],
    ...growths.map(({ name, figures }, i) => [
      name,
      fixed(figures.all.cpuPerMillion),
      fixed(growthOf(growths, i, wholeCpuOf)),
      fixed(figures.first.cpuPerMillion),
      fixed(settledCpuOf(figures)),
      fixed(growthOf(growths, i, settledCpuOf)),
      ...roles.map((role) => fixed(figures.cpuByRole[role])),
      fixed((figures.settled ?? figures.steady).samplesPerSecond / 1000),
    ]),
  ])
}

function replayTable(replays: readonly ReplayFigures[]): string {
  return table([
    ['series × scrapes', 'CPU s', 'CPU s of an empty one', 's from the kill', 'M samples per CPU s'],
    ...replays.map((figures) => [
      `${figures.seriesCount} × ${figures.scrapeCount}`,
      fixed(figures.cpuSeconds),
      fixed(figures.emptyCpuSeconds),
      fixed(figures.seconds),
      fixed(figures.samplesPerCpuSecond / 1e6),
    ]),
  ])
}

function queryTable(queries: readonly QueryFigures[]): string {
  return table([
    ['query', 'rows', 'prometheus', 'carillon', 'ratio', 'CPU prometheus', 'CPU carillon', 'answers'],
    ...queries.map(({ name, rows, ms, cpuMs, agreement }) => [
      name,
      String(rows),
      fixed(ms.prometheus),
      fixed(ms.carillon),
      fixed(ms.carillon / ms.prometheus),
      fixed(cpuMs.prometheus),
      fixed(cpuMs.carillon),
      agreement,
    ]),
  ])
}

function table(rows: readonly (readonly string[])[]): string {
  const widths = rows[0]!.map((_, column) => Math.max(...rows.map((row) => row[column]!.length)))
  const line = (row: readonly string[]) => `| ${row.map((cell, i) => cell.padEnd(widths[i]!)).join(' | ')} |`
  const rule = `|${widths.map((width) => '-'.repeat(width + 2)).join('|')}|`
  return [line(rows[0]!), rule, ...rows.slice(1).map(line)].join('\n')
}

/** Three digits that matter. */
function fixed(value: number | undefined): string {
  if (value === undefined || Number.isNaN(value)) return '-'
  if (Math.abs(value) >= 100) return value.toFixed(0)
  return Math.abs(value) >= 10 ? value.toFixed(1) : value.toFixed(2)
}

function megabytes(bytes: number): string {
  return String(Math.round(bytes / 1024 / 1024))
}
