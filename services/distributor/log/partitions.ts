// The partitions as a distributor knows them: a writer for each, how series go to those that take them (LOG-19), and what their logs say.
// Each log is read in a lane of its own (WRITE-7).
import { type Clock, sleep } from '../../../shared/base/clock.ts'
import { textOf } from '../../../shared/base/errors.ts'
import { Lanes } from '../../../shared/base/lanes.ts'
import type { Subscription } from '../../../shared/base/listeners.ts'
import type { Random } from '../../../shared/base/random.ts'
import type { Bus } from '../../../shared/bus/port.ts'
import { LOG_BUCKET, logName, markSubject } from '../../../shared/contracts/log.ts'
import { KnownEnds } from '../../../shared/kv/known-ends.ts'
import type { Membership } from '../../../shared/membership/membership.ts'
import { type Pie, partitionOf, pieOf } from '../../../shared/ring/pie.ts'
import type { Log } from '../../../shared/telemetry/log.ts'
import type { Counter, Metrics } from '../../../shared/telemetry/metrics.ts'
import type { DistributorConfig } from '../config.ts'
import { HighWaterMarks } from './high-water.ts'
import { LogProbe } from './log-probe.ts'
import { PartitionWriter, type PartitionWriterDeps } from './partition-writer.ts'
import { writerMetrics } from './writer-metrics.ts'

export interface PartitionsDeps {
  readonly id: string
  readonly bus: Bus
  readonly clock: Clock
  readonly random: Random
  readonly config: DistributorConfig
  readonly log: Log
  readonly metrics: Metrics
  readonly membership: Membership
  /** Parts of the protocol left out, only for the simulation's counter-proofs. */
  readonly without?: ReadonlySet<string>
  /** Called when series go to other partitions than before. */
  readonly onMoved: () => void
}

/** How long the start waits while no log has a leader. */
const START_MS_MAX = 30_000
const FIRST_MARKS_WAIT_MS = 5_000
const FIRST_MARKS_STEP_MS = 50

export class Partitions {
  readonly #deps: PartitionsDeps
  readonly #writers: PartitionWriter[] = []
  readonly #writerDeps: PartitionWriterDeps
  readonly #lanes: Lanes
  readonly #probe: LogProbe
  readonly #rewinds: Counter
  readonly #opened: Subscription[] = []
  /** How series go to the partitions that take them. */
  #pie: Pie | undefined
  #writableCount = 0
  #highWater!: HighWaterMarks

  constructor(deps: PartitionsDeps) {
    this.#deps = deps
    const { bus, clock, random, config, log, metrics, without = NOTHING } = deps
    const ends = new KnownEnds(deps)
    const known = (partition: number) => ends.read(partition)
    this.#probe = new LogProbe({ logs: bus.logs, clock })
    this.#lanes = new Lanes({
      clock,
      onFailure: (lane, { code, message }) => log.warn({ lane, code, reason: message }, 'tried again'),
    })
    this.#rewinds = metrics.counter(
      'carillon_distributor_log_rewinds_total',
      'Logs found to end before a sequence known to be stored.',
    )
    this.#writerDeps = { bus, clock, random, config, metrics: writerMetrics(metrics), known, without }
    metrics.gaugeOf('carillon_distributor_queued_bytes', 'Bytes that wait for the log.', () => this.queuedBytes)
  }

  /** A writer for each partition, at its number. */
  get writers(): readonly PartitionWriter[] {
    return this.#writers
  }

  /** Those that take new series. */
  get writable(): readonly PartitionWriter[] {
    return this.#writers.slice(0, this.#writableCount)
  }

  /** Whether it is known how series go to them. */
  get areKnown(): boolean {
    return this.#pie !== undefined
  }

  get queuedBytes(): number {
    return this.#writers.reduce((sum, writer) => sum + writer.queuedBytes, 0)
  }

  place(seriesHash: number): number {
    return partitionOf(seriesHash, this.#pie!)
  }

  /** All metadata of a metric stand in one partition. */
  metadataWriter(tenant: string, metric: string): PartitionWriter {
    let hash = 0
    const text = `${tenant}\u0000${metric}`
    for (let i = 0; i < text.length; i++) hash = (Math.imul(hash, 31) + text.charCodeAt(i)) >>> 0
    return this.#writers[this.place(hash)]!
  }

  /** Which logs of those that take series do not answer. */
  lacks(): Promise<readonly string[]> {
    return this.#probe.lacks(this.#writableCount)
  }

  /** Hears of marks and of the connection from now on. */
  async open(): Promise<void> {
    const { bus, id, log, metrics } = this.#deps
    const bucket = await bus.bucket(LOG_BUCKET)
    this.#highWater = new HighWaterMarks({ bucket, id, log, metrics, rewinds: this.#rewinds })
    this.#opened.push(bus.subscribe(markSubject('*'), {}, ({ subject }) => this.#hearMark(subject)))
    this.#opened.push(bus.onConnection((isConnected) => this.#onConnection(isConnected)))
  }

  stop(): void {
    for (const each of this.#opened.splice(0)) each.stop()
  }

  /** At a common start the ingesters are about to write the first marks: whoever is told that this actor is ready may push at once. Logs
   *  without a leader are waited for only where that is all of them (WRITE-7). */
  async findLogs(): Promise<void> {
    const { clock } = this.#deps
    const writers = this.#writers
    const startedMs = clock.monotonic()
    const isUnmarked = (writer: PartitionWriter) => !writer.isMarked
    const hasAnswered = (writer: PartitionWriter) => writer.incarnation !== ''
    for (;;) {
      await this.findMarks()
      this.#readStates(writers.filter((writer) => !hasAnswered(writer)))
      if (writers.length > 0 && !writers.some(isUnmarked) && writers.every(hasAnswered)) return
      const waitMs = writers.length === 0 || writers.some(hasAnswered) ? FIRST_MARKS_WAIT_MS : START_MS_MAX
      if (clock.monotonic() - startedMs >= waitMs) return
      await sleep(clock, FIRST_MARKS_STEP_MS)
    }
  }

  /** Opens writers for partitions that have been added, and reads the mark of those that know none. */
  async findMarks(): Promise<void> {
    const { membership } = this.#deps
    while (this.#writers.length < membership.partitionCount())
      this.#writers.push(new PartitionWriter(this.#writers.length, this.#writerDeps))
    for (const writer of this.#writers) {
      if (!writer.isMarked) void this.#lanes.begin(`find the mark of ${writer.partition}`, () => writer.refresh())
    }
    this.#openAdded()
  }

  async readStates(): Promise<void> {
    this.#readStates(this.#writers)
  }

  /** Writes down the newest stored batch of each session. */
  async saveHighWater(): Promise<void> {
    for (const writer of this.#writers) {
      void this.#lanes.begin(`write down the newest batch of ${writer.partition}`, () => this.#highWater.save(writer))
    }
  }

  /** Series that move to a new partition are looked up anew: the dictionary holds where each one goes (LOG-19). */
  #openAdded(): void {
    const { membership, log, onMoved } = this.#deps
    const count = membership.writableCount()
    if (count === this.#writableCount || count > this.#writers.length) return
    if (this.#writers.slice(0, count).some((writer) => !writer.isMarked) && this.#writableCount > 0) return
    log.info({ partitions: count, before: this.#writableCount }, 'the partitions that take series')
    this.#pie = pieOf(count)
    this.#writableCount = count
    onMoved()
  }

  #readStates(of: readonly PartitionWriter[]): void {
    for (const writer of of)
      void this.#lanes.begin(`read the state of ${writer.partition}`, () => this.#readState(writer))
  }

  async #readState(writer: PartitionWriter): Promise<void> {
    const state = await this.#deps.bus.logs.state(logName(writer.partition))
    writer.filled.hear(state)
    writer.incarnation = state.incarnation
    if (writer.mark !== undefined) await writer.refresh()
    await this.#highWater.check(writer, state.lastSeq)
  }

  /** A message on the mark subject says that there may be a new mark. It may have been refused by the log, so only the log is believed. */
  #hearMark(subject: string): void {
    const { log } = this.#deps
    const partition = Number(subject.split('.')[1])
    this.#writers[partition]
      ?.refresh()
      .catch((error: unknown) => log.debug({ partition, reason: textOf(error) }, 'mark not read'))
  }

  #onConnection(isConnected: boolean): void {
    for (const writer of this.#writers) writer.doubt()
    if (isConnected) void this.findMarks()
  }
}

const NOTHING: ReadonlySet<string> = new Set()
