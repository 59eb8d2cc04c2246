// Reads everything back and compares it with a ledger: over HTTP as a user does, from each owner over the bus where JSON cannot carry
// the bits, and from the partition logs themselves.
import { OwnerAnswer } from '../../services/querier/read/owner-answer.ts'
import { systemClock } from '../../shared/base/clock.ts'
import { RefusedError } from '../../shared/base/errors.ts'
import { systemRandom } from '../../shared/base/random.ts'
import { openBlocks } from '../../shared/blocks/open.ts'
import type { Blocks } from '../../shared/blocks/port.ts'
import { askStream } from '../../shared/bus/ask.ts'
import { connectNats } from '../../shared/bus/nats/nats-bus.ts'
import type { Bus, LogMessage } from '../../shared/bus/port.ts'
import { logName } from '../../shared/contracts/log.ts'
import type { PartitionStatus } from '../../shared/contracts/member.ts'
import { select } from '../../shared/contracts/read.ts'
import type { Histogram } from '../../shared/model/histogram.ts'
import { labelsKey } from '../../shared/model/labels.ts'
import { directoryObjects } from '../../shared/objects/directory-objects.ts'
import { natsObjects } from '../../shared/objects/nats-objects.ts'
import { silentLog } from '../../shared/telemetry/log.ts'
import { BlockReader } from '../../shared/tsdb/block/reader.ts'
import { HistogramChunkReader } from '../../shared/tsdb/chunk/histogram.ts'
import { decodeXorWords, ENCODING_XOR } from '../../shared/tsdb/chunk/xor.ts'
import { SampleColumns, type SampleRun } from '../../shared/tsdb/columns.ts'
import { mergeRuns } from '../../shared/tsdb/merge.ts'
import { type LogModel, readLog } from '../sim/log-model.ts'
import { until } from '../waiting.ts'
import { type HeldSeries, type Ledger, labelsOf } from './ledger.ts'
import { type NatsPlace, reachOf } from './nats-place.ts'

const RANGE = '3h'
const ALL_TIME = { startMs: 0, endMs: 9e15 }
const TENANT = 'anonymous'
const READ_AT_ONCE = 64

export interface OwnerStatus extends PartitionStatus {
  readonly id: string
}

export interface PartitionsPage {
  readonly partitionCount: number
  readonly partitions: readonly {
    readonly partition: number
    readonly assignedTo: readonly string[]
    readonly owners: readonly OwnerStatus[]
    readonly digestsAgree: boolean | null
  }[]
}

export interface Checked {
  readonly acknowledged: number
  readonly owners: number
  readonly batches: number
  readonly partitions: PartitionsPage
}

export async function getJson<T>(url: string): Promise<T> {
  const response = await fetch(url, { signal: AbortSignal.timeout(30_000) })
  const text = await response.text()
  if (!response.ok) throw new Error(`${url} answered ${response.status}: ${text.slice(0, 500)}`)
  return JSON.parse(text) as T
}

export async function partitionsOf(url: string): Promise<PartitionsPage> {
  return (await getJson<{ data: PartitionsPage }>(`${url}/api/v1/status/partitions`)).data
}

export async function withBus<T>(place: NatsPlace, use: (bus: Bus) => Promise<T>): Promise<T> {
  const bus = await connectNats({
    ...reachOf(place),
    prefix: 'cln',
    name: 'test',
    clock: systemClock,
    onEvent: () => {},
  })
  try {
    return await use(bus)
  } finally {
    await bus.close()
  }
}

export interface Checkable {
  readonly url: string
  readonly nats: NatsPlace
  /** Where objects are, when they are in a folder. */
  readonly objectsDir?: string
}

/** Every check of a whole system; rejects with all that is wrong. */
export async function checkAll(system: Checkable, ledger: Ledger): Promise<Checked> {
  return await withBus(system.nats, async (bus) => {
    const partitions = await settled(system.url, bus)
    const faults = await faultsOverHttp(system.url, ledger)
    let owners = 0
    for (const owner of new Set(partitions.partitions.flatMap(({ assignedTo }) => assignedTo))) owners += owner ? 1 : 0
    faults.push(...(await faultsOfOwners({ bus, ...system }, partitions, ledger)))
    let batches = 0
    for (let partition = 0; partition < partitions.partitionCount; partition++) {
      const model = await readPartition(bus, partition)
      batches += model.batches
      if (model.doubledBatches.length > 0)
        faults.push(`log ${partition} holds twice: ${model.doubledBatches.join(' ')}`)
    }
    const disagreeing = partitions.partitions.filter(({ digestsAgree }) => digestsAgree === false)
    if (disagreeing.length > 0) faults.push(`owners disagree: ${JSON.stringify(disagreeing)}`)
    if (faults.length > 0)
      throw new Error(`the ledger of ${ledger.acknowledgedCount} samples found:\n${faults.join('\n')}`)
    return { acknowledged: ledger.acknowledgedCount, owners, batches, partitions }
  })
}

/** Resolves when every owner of every partition has applied the end that the log has now. */
export async function settled(url: string, bus: Bus): Promise<PartitionsPage> {
  let page: PartitionsPage | undefined
  await until('all owners have caught up and agree', async () => {
    page = await partitionsOf(url)
    const { partitions } = page
    const isWhole = await Promise.all(
      partitions.map(async ({ partition, assignedTo, owners }) => {
        const { lastSeq } = await bus.logs.state(logName(partition))
        const isDone = ({ state, appliedSeq }: OwnerStatus) => state === 'caught-up' && appliedSeq >= lastSeq
        return (
          assignedTo.length > 0 && assignedTo.every((id) => owners.some((owner) => owner.id === id && isDone(owner)))
        )
      }),
    )
    return isWhole.every(Boolean)
  })
  return page!
}

// ---- over HTTP ----

interface MatrixRow {
  readonly metric: Record<string, string>
  readonly values?: readonly [number, string][]
  readonly histograms?: readonly [number, { count: string; sum: string }][]
}

export async function query<T>(url: string, text: string): Promise<readonly T[]> {
  const params = new URLSearchParams({ query: text, time: String(Date.now() / 1000 + 3600) })
  const { data, warnings } = await getJson<{ data: { result: T[] }; warnings?: string[] }>(
    `${url}/api/v1/query?${params}`,
  )
  if (warnings !== undefined) throw new Error(`${text} came with warnings: ${warnings.join('; ')}`)
  return data.result
}

export async function faultsOverHttp(url: string, ledger: Ledger): Promise<string[]> {
  const rows = await query<MatrixRow>(url, `{__name__=~"load_.+"}[${RANGE}]`)
  const faults = ledger.faultsIn(rows.map(rowOf), 'json').map((fault) => `by range selector: ${fault}`)
  for (const name of ['load_float', 'load_histogram']) {
    const counted = await query<{ metric: Record<string, string>; value: [number, string] }>(
      url,
      `count_over_time(${name}[${RANGE}])`,
    )
    const byLabels = new Map(counted.map(({ metric, value }) => [keyOf(metric), Number(value[1])]))
    for (const { labels, least, most } of ledger.counts(name).values()) {
      const metric = Object.fromEntries(pairsOf(labels).filter(([label]) => label !== '__name__'))
      const count = byLabels.get(keyOf(metric)) ?? 0
      if (count < least || count > most) {
        faults.push(`count_over_time of ${name} ${keyOf(metric)} is ${count}, wanted ${least} to ${most}`)
      }
    }
  }
  return [...faults, ...(await sideFaults(url, ledger))]
}

/** Exemplars and metadata. */
async function sideFaults(url: string, ledger: Ledger): Promise<string[]> {
  const params = new URLSearchParams({ query: 'load_float', start: '0', end: String(Date.now() / 1000 + 3600) })
  const exemplars = await getJson<{
    data: {
      seriesLabels: Record<string, string>
      exemplars: { labels: { trace_id: string }; timestamp: number; value: string }[]
    }[]
  }>(`${url}/api/v1/query_exemplars?${params}`)
  const held = new Set(
    exemplars.data.flatMap((row) =>
      row.exemplars.map(
        ({ labels, timestamp, value }) =>
          `${keyOf(row.seriesLabels)} ${labels.trace_id} ${Math.round(timestamp * 1000)} ${Number(value)}`,
      ),
    ),
  )
  const missing = ledger.exemplars.filter(
    ({ labels, traceId, time, value }) =>
      !held.has(`${keyOf(Object.fromEntries(pairsOf(labels)))} ${traceId} ${time} ${value}`),
  )
  const some = JSON.stringify(missing.slice(0, 3))
  const faults =
    missing.length === 0 ? [] : [`${missing.length} of ${ledger.exemplars.length} exemplars are lost: ${some}`]
  const metadata = await getJson<{ data: Record<string, { type: string; help: string; unit: string }[]> }>(
    `${url}/api/v1/metadata`,
  )
  for (const [metric, { type, help, unit }] of ledger.metadata) {
    const isThere = metadata.data[metric]?.some((row) => row.type === type && row.help === help && row.unit === unit)
    if (!isThere) faults.push(`metadata of ${metric} is ${JSON.stringify(metadata.data[metric])}`)
  }
  return faults
}

function rowOf({ metric, values = [], histograms = [] }: MatrixRow): HeldSeries {
  const times = [...values, ...histograms].map(([time]) => Math.round(time * 1000))
  const column = new Float64Array(times.length)
  values.forEach(([, text], i) => {
    column[i] = numberOf(text)
  })
  const read = histograms.map(
    ([, { count, sum }]) => ({ count: Number(count), sum: numberOf(sum) }) as Histogram, // all that 'json' compares
  )
  return { labels: labelsOf(metric), times, values: column, histograms: [...values.map(() => undefined), ...read] }
}

function numberOf(text: string): number {
  if (text === '+Inf') return Number.POSITIVE_INFINITY
  return text === '-Inf' ? Number.NEGATIVE_INFINITY : Number(text)
}

function pairsOf(labels: readonly string[]): [string, string][] {
  return Array.from({ length: labels.length / 2 }, (_, i) => [labels[2 * i]!, labels[2 * i + 1]!])
}

function keyOf(metric: Record<string, string>): string {
  return Object.entries(metric)
    .sort(([a], [b]) => (a < b ? -1 : 1))
    .map(([name, value]) => `${name}=${value}`)
    .join(',')
}

// ---- from the owners ----

/** Each owner of a partition is asked for all that is not in blocks; with the blocks, together, one of each partition, they hold everything. */
export async function faultsOfOwners(
  { bus, nats, objectsDir }: { bus: Bus; nats: NatsPlace; objectsDir?: string },
  page: PartitionsPage,
  ledger: Ledger,
): Promise<string[]> {
  const faults: string[] = []
  const replicas = Math.max(...page.partitions.map(({ assignedTo }) => assignedTo.length))
  for (let replica = 0; replica < replicas; replica++) {
    const held = await withStored({ bus, nats, ...(objectsDir !== undefined && { objectsDir }) }, async (blocks) => {
      const rows: HeldSeries[] = []
      for (const { partition, assignedTo } of page.partitions) {
        rows.push(...(await heldBy(bus, assignedTo[replica % assignedTo.length]!, partition, blocks)))
      }
      return [...rows, ...(await heldInBlocks(blocks))]
    })
    faults.push(...ledger.faultsIn(joined(held), 'bits').map((fault) => `by owners no. ${replica + 1}: ${fault}`))
  }
  return faults
}

export async function withStored<T>(
  { bus, nats, objectsDir }: { bus: Bus; nats: NatsPlace; objectsDir?: string },
  use: (blocks: Blocks) => Promise<T>,
): Promise<T> {
  const objects =
    objectsDir === undefined
      ? await natsObjects({ ...reachOf(nats), prefix: 'cln', name: 'test', clock: systemClock })
      : await directoryObjects(objectsDir, { clock: systemClock })
  const blocks = await openBlocks({ bus, objects, clock: systemClock, random: systemRandom, log: silentLog })
  try {
    return await use(blocks)
  } finally {
    blocks.close()
    await objects.close()
  }
}

/** A series that has moved to an added partition, or whose samples lie in memory and in blocks, stands in several rows: of equal times the
 *  greater stays. */
function joined(held: readonly HeldSeries[]): HeldSeries[] {
  return [...Map.groupBy(held, ({ labels }) => labelsKey(labels)).values()].map((rows) => {
    if (rows.length === 1) return rows[0]!
    const merged = new SampleColumns()
    mergeRuns(rows.map(runOf), merged)
    const { times, values, histograms } = merged.asRun()
    const column = { times: times.slice(0, merged.count), values: values.slice(0, merged.count) }
    return { labels: rows[0]!.labels, ...column, ...(histograms && { histograms }) }
  })
}

function runOf({ times, values, histograms }: HeldSeries): SampleRun {
  const column = times instanceof Float64Array ? times : Float64Array.from(times)
  return { times: column, values, histograms, start: 0, end: column.length }
}

/** What an owner holds of the segments that are not in blocks. When it has dropped more meanwhile, the watermark is read again. */
export async function heldBy(bus: Bus, owner: string, partition: number, blocks?: Blocks): Promise<HeldSeries[]> {
  for (let attempt = 0; ; attempt++) {
    const watermark = blocks?.watermark(TENANT, partition) ?? 0
    const asked = {
      partition,
      tenant: TENANT,
      watermark,
      manifestVersion: 0,
      minSeq: 0,
      incarnation: '',
      waitMs: 10_000,
    }
    const answer = new OwnerAnswer(ALL_TIME, { isHashed: false, isProjected: false })
    const request = { ...asked, matchers: [], ...ALL_TIME, mode: 'all' as const, seriesMax: 1_000_000 }
    try {
      for await (const frame of askStream(bus, select, { id: owner }, request, {})) answer.add(frame)
      return answer.series
    } catch (error) {
      const isDropped = error instanceof RefusedError && error.code === 'err-carillon-dropped'
      if (!isDropped || blocks === undefined || attempt === 20) throw error
      await new Promise((resolve) => setTimeout(resolve, 100))
    }
  }
}

async function heldInBlocks(blocks: Blocks): Promise<HeldSeries[]> {
  const held: HeldSeries[] = []
  for (const entry of blocks.manifest(TENANT)?.manifest.blocks ?? []) {
    const files = blocks.openBlock(TENANT, entry)
    const reader = await BlockReader.open(files, await files.meta(), { isThorough: true })
    for await (const batch of reader.allSeries()) {
      for (const { labels, chunks } of batch) {
        const columns = new SampleColumns()
        for (const { encoding, bytes, count } of chunks) readChunk(encoding, bytes, count, columns)
        const { times, values, histograms } = columns.asRun()
        const column = { times: times.slice(0, columns.count), values: values.slice(0, columns.count) }
        held.push({ labels, ...column, ...(histograms && { histograms }) })
      }
    }
  }
  return held
}

function readChunk(encoding: number, bytes: Uint8Array, count: number, sink: SampleColumns): void {
  if (encoding === ENCODING_XOR) {
    sink.reserve(count)
    decodeXorWords(bytes, 0, bytes.length, sink.times, sink.words, sink.count)
    return sink.advance(count)
  }
  const reader = new HistogramChunkReader(encoding, bytes, 0, bytes.length)
  while (reader.next()) sink.pushHistogram(reader.time, reader.histogram())
}

// ---- from the logs ----

export interface PartitionLog extends LogModel {
  readonly batches: number
  readonly messages: readonly LogMessage[]
}

/** All messages of a partition log, and what they say. */
export async function readPartition(bus: Bus, partition: number): Promise<PartitionLog> {
  const messages = await readMessages(bus, logName(partition))
  const batches = messages.filter(({ subject }) => subject.endsWith('.batch')).length
  return { ...readLog(partition, messages), batches, messages }
}

export async function readMessages(bus: Bus, log: string): Promise<readonly LogMessage[]> {
  const { firstSeq, lastSeq } = await bus.logs.state(log)
  const messages: LogMessage[] = []
  for (let from = Math.max(1, firstSeq); from <= lastSeq; from += READ_AT_ONCE) {
    const count = Math.min(READ_AT_ONCE, lastSeq - from + 1)
    const read = await Promise.all(Array.from({ length: count }, (_, i) => bus.logs.get(log, from + i, 5_000)))
    messages.push(...read.filter((message) => message !== undefined))
  }
  return messages
}
