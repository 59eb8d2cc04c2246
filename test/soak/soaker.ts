// A writer of series that follow a formula, and a checker that reads them back by all kinds of windows: every answer must be the formula's,
// value by value. What was acknowledged is what is expected; nothing else may be there.
//
//   series   soak{n="<i>", g="<i mod 100>"}, i from 0;   value at time t (ms):  sin(2π t / 10 min + i) · (i + 1)
//   The first `OLD_SERIES` of them have samples every 5 minutes of the 24 hours before the start, written first.
import { setTimeout as sleep } from 'node:timers/promises'
import type { PlainSeries } from '../../shared/wire/remote-write-encode.ts'
import { ask, pushWrite } from '../cluster/client.ts'

export interface SoakOptions {
  readonly url: string
  readonly seriesCount: number
  readonly intervalMs: number
  /** Draws series and windows; [0, 1). */
  readonly random: () => number
  readonly say: (text: string) => void
}

export interface SoakCounts {
  ticks: number
  samples: number
  /** Answers to pushes that were no 2xx: sent again. */
  resent: number
  checks: number
  valuesCompared: number
  /** Answers that were wrong, in words; the first FAILURES_MAX. */
  readonly failures: string[]
  failureCount: number
  /** Queries without an answer: they are no wrong ones, and asked again. */
  unanswered: number
  slowestCheckMs: number
}

const GROUPS = 100
const OLD_SERIES = 100
const OLD_STEP_MS = 300_000
const OLD_SPAN_MS = 24 * 3_600_000
const PUSH_SERIES_MAX = 2_000
const FAILURES_MAX = 20
const HOUR_MS = 3_600_000

export const valueAt = (i: number, timeMs: number): number => Math.sin((2 * Math.PI * timeMs) / 600_000 + i) * (i + 1)
const labelsOf = (i: number): string[] => ['__name__', 'soak', 'g', String(i % GROUPS), 'n', String(i)]

export class Soaker {
  readonly counts: SoakCounts = {
    ...{ ticks: 0, samples: 0, resent: 0, checks: 0, valuesCompared: 0 },
    ...{ failures: [], failureCount: 0, unanswered: 0, slowestCheckMs: 0 },
  }
  private readonly options: SoakOptions
  /** Times of ticks that were acknowledged in full, rising. */
  private readonly ticks: number[] = []
  private oldTimes: number[] = []

  constructor(options: SoakOptions) {
    this.options = options
  }

  /** The 24 hours before. */
  async backfill(): Promise<void> {
    const nowMs = Date.now()
    const endMs = Math.floor((nowMs - 60_000) / OLD_STEP_MS) * OLD_STEP_MS
    const count = Math.floor(OLD_SPAN_MS / OLD_STEP_MS)
    const times = Array.from({ length: count }, (_, k) => endMs - (count - 1 - k) * OLD_STEP_MS)
    for (let i = 0; i < Math.min(OLD_SERIES, this.options.seriesCount); i += 20) {
      const series = Array.from({ length: Math.min(20, this.options.seriesCount - i) }, (_, k) => {
        return { labels: labelsOf(i + k), samples: times.map((time) => ({ time, value: valueAt(i + k, time) })) }
      })
      await this.push(series)
    }
    this.oldTimes = times
  }

  /** Writes a tick every interval until told to stop. */
  async write(signal: AbortSignal): Promise<void> {
    const { intervalMs, seriesCount } = this.options
    while (!signal.aborted) {
      const time = Math.floor(Date.now() / 1_000) * 1_000
      if (time <= (this.ticks.at(-1) ?? 0)) {
        await sleep(10) // woken a little early
        continue
      }
      for (let from = 0; from < seriesCount; from += PUSH_SERIES_MAX) {
        const count = Math.min(PUSH_SERIES_MAX, seriesCount - from)
        const series = Array.from({ length: count }, (_, k): PlainSeries => {
          return { labels: labelsOf(from + k), samples: [{ time, value: valueAt(from + k, time) }] }
        })
        await this.push(series)
      }
      this.ticks.push(time)
      this.counts.ticks++
      const leftMs = time + intervalMs - Date.now()
      if (leftMs > 0) await sleep(leftMs, undefined, { signal }).catch(() => {}) // told to stop
    }
  }

  /** Checks, one after the other, until told to stop. */
  async check(signal: AbortSignal, pauseMs: number): Promise<void> {
    const kinds = [
      () => this.checkInstant(),
      () => this.checkWindow(HOUR_MS),
      () => this.checkWindow(OLD_SPAN_MS),
      () => this.checkRandomWindow(),
      () => this.checkCounts(),
    ]
    for (let i = 0; !signal.aborted; i++) {
      if (this.ticks.length > 0) {
        const startMs = performance.now()
        await kinds[i % kinds.length]!()
        this.counts.slowestCheckMs = Math.max(this.counts.slowestCheckMs, performance.now() - startMs)
      }
      await sleep(pauseMs, undefined, { signal }).catch(() => {}) // told to stop
    }
  }

  // ---- checks ----

  private async checkInstant(): Promise<void> {
    const time = this.ticks.at(-1)!
    const group = this.draw(Math.min(GROUPS, this.options.seriesCount))
    const result = await this.query(`soak{g="${group}"}`, time)
    if (result === undefined) return
    const found = new Map(result.map(({ metric, value }) => [Number(metric['n']), value!]))
    const wanted = Array.from({ length: this.options.seriesCount }, (_, i) => i).filter((i) => i % GROUPS === group)
    if (found.size !== wanted.length)
      return this.fail(`group ${group} at ${time}: ${found.size} of ${wanted.length} series`)
    for (const i of wanted) this.compare(`series ${i} at ${time}`, Number(found.get(i)?.[1]), valueAt(i, time))
  }

  private checkWindow(lengthMs: number): Promise<void> {
    return this.checkSamples(this.ticks.at(-1)!, lengthMs)
  }

  private checkRandomWindow(): Promise<void> {
    const newest = this.ticks.at(-1)!
    const oldest = this.oldTimes[0] ?? this.ticks[0]!
    const endMs = Math.floor(oldest + this.options.random() * (newest - oldest))
    return this.checkSamples(endMs, 1_000 + Math.floor(this.options.random() * OLD_SPAN_MS))
  }

  /** Every sample of one series in a window (start, end]. */
  private async checkSamples(endMs: number, lengthMs: number): Promise<void> {
    const isOld = this.options.random() < 0.5
    const i = this.draw(isOld ? Math.min(OLD_SERIES, this.options.seriesCount) : this.options.seriesCount)
    const times = [...(i < OLD_SERIES ? this.oldTimes : []), ...this.ticks]
    const wanted = times.filter((time) => time > endMs - lengthMs && time <= endMs)
    const result = await this.query(`soak{n="${i}"}[${lengthMs}ms]`, endMs)
    if (result === undefined) return
    const found = result[0]?.values ?? []
    const what = `series ${i} in ${lengthMs} ms before ${endMs}`
    if (found.length !== wanted.length)
      return this.fail(`${what}: ${found.length} samples, ${wanted.length} were written`)
    for (const [k, time] of wanted.entries()) {
      const [foundTime, value] = found[k]!
      if (Math.round(foundTime * 1_000) !== time) return this.fail(`${what}: a sample at ${foundTime}, none at ${time}`)
      this.compare(`${what}, at ${time}`, Number(value), valueAt(i, time))
    }
  }

  /** All series, and how many samples all of them have had for a while. */
  private async checkCounts(): Promise<void> {
    const time = this.ticks.at(-1)!
    const { seriesCount } = this.options
    const all = await this.query('count(soak)', time)
    if (all !== undefined) this.compare(`count at ${time}`, Number(all[0]?.value?.[1]), seriesCount)
    const sinceMs = 300_000
    const group = this.draw(Math.min(GROUPS, seriesCount))
    const counted = await this.query(`sum(count_over_time(soak{g="${group}"}[${sinceMs}ms]))`, time)
    if (counted === undefined) return
    const isIn = (each: number) => each > time - sinceMs && each <= time
    const ticks = this.ticks.filter(isIn).length
    const members = Math.ceil((seriesCount - group) / GROUPS)
    const old = group < OLD_SERIES && group < seriesCount ? this.oldTimes.filter(isIn).length : 0 // of g, only n = g is below OLD_SERIES
    this.compare(`samples of group ${group} before ${time}`, Number(counted[0]?.value?.[1]), ticks * members + old)
  }

  private compare(what: string, found: number, wanted: number): void {
    this.counts.valuesCompared++
    if (!Object.is(found, wanted)) this.fail(`${what}: ${found}, ${wanted} was written`)
  }

  private fail(text: string): void {
    this.counts.failureCount++
    this.options.say(`WRONG: ${text}`)
    if (this.counts.failures.length < FAILURES_MAX) this.counts.failures.push(text)
  }

  // biome-ignore lint/suspicious/noExplicitAny: Prometheus' result, whose shape differs by question
  private async query(text: string, timeMs: number): Promise<readonly any[] | undefined> {
    try {
      const parameters = { query: text, time: String(timeMs / 1_000) }
      const { status, body } = await ask(this.options.url, '/api/v1/query', parameters, { consistency: 'strong' })
      this.counts.checks++
      if (status === 200) {
        if ((body.warnings ?? []).length > 0) this.fail(`${text}: warnings ${JSON.stringify(body.warnings)}`)
        return body.data.result
      }
      this.options.say(`no answer to ${text}: ${status} ${JSON.stringify(body)}`)
    } catch (error) {
      this.options.say(`no answer to ${text}: ${error}`)
    }
    this.counts.unanswered++
    return undefined
  }

  private async push(series: readonly PlainSeries[]): Promise<void> {
    for (;;) {
      const status = await pushWrite(this.options.url, { series: [...series] }).then(
        (pushed) => pushed.status,
        () => 0,
      )
      if (status === 204 || status === 200) {
        this.counts.samples += series.reduce((sum, { samples }) => sum + (samples?.length ?? 0), 0)
        return
      }
      this.counts.resent++
      await sleep(200)
    }
  }

  private draw(below: number): number {
    return Math.floor(this.options.random() * below)
  }
}
