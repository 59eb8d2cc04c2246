// An HA pair in a simulated history: two replicas scrape the same counter, each at moments of its own and by a clock that is a little off,
// and send what they scraped in order, each push again until it is answered. Now and then one is down, or scrapes on and cannot send.
//
// What is stored must look as if one Prometheus had sent it: one set of series, in reigns that share no time (L22), a counter that never goes
// back, and nothing missing of what was answered as written.
import type { Owner } from '../../services/ingester/owner.ts'
import { type Random, seededRandom } from '../../shared/base/random.ts'
import { ask } from '../../shared/bus/ask.ts'
import type { Bus } from '../../shared/bus/port.ts'
import { ELECTIONS_BUCKET, electionKey, electionRecord } from '../../shared/contracts/elections.ts'
import { push } from '../../shared/contracts/write.ts'
import { labelsFrom, labelsKey } from '../../shared/model/labels.ts'
import { SampleColumns } from '../../shared/tsdb/columns.ts'
import { encodeWriteV1 } from '../../shared/wire/remote-write-encode.ts'
import { compress } from '../../shared/wire/snappy.ts'
import { valueIn } from '../records.ts'
import type { VirtualClock } from './virtual-clock.ts'

const METRIC = 'requests_total'
const CLUSTER = 'eu'
const SCRAPE_MS = 120
const SCRAPES_PER_PUSH_MAX = 6
const INSTANCES = ['0', '1']
/** How far a replica's clock is off: less than a bound reaches ahead. */
const OFF_MS_MAX = 60
const FAULTS_SHOWN_MAX = 3

/** What distributors of such a history go by: takeovers within a second. */
export const pairTimes = { haRenewMs: 150, haKvGraceMs: 300, haTakeoverMs: 700 }

interface Scrape {
  readonly time: number
  readonly value: number
}

export class Pair {
  private readonly tenant: string
  private readonly clock: VirtualClock
  private readonly random: Random
  /** Times that were answered as written. */
  private readonly written = new Set<number>()
  takeoverCount = 0

  constructor(tenant: string, clock: VirtualClock, seed: number) {
    this.tenant = tenant
    this.clock = clock
    this.random = seededRandom(seed * 11 + 5) // of its own, so that what it draws depends on nothing else
  }

  /** The replica's number is the parity of its sample times: what is stored says who sent it. */
  async replica(number: 0 | 1, bus: Bus, untilMs: number): Promise<void> {
    const { clock, random } = this
    const offMs = random.below(2 * OFF_MS_MAX) - OFF_MS_MAX
    const queue: Scrape[] = []
    let wakesAtMs = 0
    let reachesUsAtMs = 0
    let isUnderWay = false // it ends with nothing of it on the way
    for (let scrapedMs = random.below(SCRAPE_MS); clock.monotonic() < untilMs || isUnderWay; ) {
      const nowMs = clock.monotonic()
      for (; scrapedMs <= nowMs; scrapedMs += SCRAPE_MS) {
        if (scrapedMs < wakesAtMs) continue // it is down and scrapes nothing
        const time = Math.floor((clock.startMs + scrapedMs + offMs) / 2) * 2 + number
        queue.push({ time, value: scrapedMs })
      }
      const some = nowMs < Math.max(wakesAtMs, reachesUsAtMs) ? [] : queue.slice(0, SCRAPES_PER_PUSH_MAX)
      const isAnswered = some.length > 0 && (await this.isPushed(number, bus, some))
      isUnderWay = some.length > 0 && !isAnswered
      if (isAnswered) queue.splice(0, some.length)
      const chance = random.next()
      if (chance < 0.03) wakesAtMs = clock.monotonic() + 300 + random.below(2_000)
      else if (chance < 0.06) reachesUsAtMs = clock.monotonic() + 300 + random.below(2_000)
      if (wakesAtMs > clock.monotonic()) queue.length = 0
      await new Promise<void>((resolve) => clock.after(20 + random.below(80), resolve))
    }
  }

  private async isPushed(number: 0 | 1, bus: Bus, scrapes: readonly Scrape[]): Promise<boolean> {
    const series = INSTANCES.map((instance) => ({
      labels: labelsFrom({ __name__: METRIC, __replica__: `r${number}`, cluster: CLUSTER, instance }),
      samples: scrapes,
    }))
    try {
      const request = { protocol: 1, body: compress(encodeWriteV1({ series })) } as const
      const { dropped } = await ask(bus, push, { tenant: this.tenant }, request, { timeoutMs: 4_000 })
      if (dropped === undefined) for (const { time } of scrapes) this.written.add(time)
      return true
    } catch {
      return false // it sends the same again
    }
  }

  /** How often another replica took over, by the record of the election. */
  async readTakeovers(bus: Bus): Promise<void> {
    const entry = await (await bus.bucket(ELECTIONS_BUCKET)).get(electionKey(this.tenant, CLUSTER))
    this.takeoverCount = entry?.value ? valueIn(electionRecord, entry.value).takeovers : 0
  }

  /** What is wrong with what these owners, which together own all partitions, and blocks hold of the pair. */
  faultsIn(owners: readonly Owner[], stored: ReadonlyMap<string, number>): string[] {
    const faults: string[] = []
    const held = heldBy(owners, this.tenant, stored)
    if (held.size > INSTANCES.length)
      faults.push(`of an HA pair more than one set of series: ${[...held.keys()].map(shown)}`)
    for (const [series, samples] of held) {
      const rows = [...samples].sort(([a], [b]) => a - b)
      const isOther = (i: number) => i > 0 && (rows[i]![0] & 1) !== (rows[i - 1]![0] & 1)
      const reigns = 1 + rows.filter((_, i) => isOther(i)).length
      if (reigns > this.takeoverCount + 1)
        faults.push(`${shown(series)}: ${reigns} reigns share time, with ${this.takeoverCount} takeovers`)
      const back = rows.findIndex(([, value], i) => i > 0 && value <= rows[i - 1]![1])
      if (back > 0) faults.push(`${shown(series)}: the counter goes back from ${rows[back - 1]} to ${rows[back]}`)
      const lost = [...this.written].filter((time) => !samples.has(time))
      if (lost.length > 0)
        faults.push(`${shown(series)}: ${lost.length} samples answered as written are lost: ${lost[0]}`)
    }
    if (held.size === 0 && this.written.size > 0) faults.push('all of an HA pair is lost')
    return faults.slice(0, FAULTS_SHOWN_MAX)
  }
}

/** Series → time → value. One that moved to an added partition stands in two of them, and most of it in blocks. */
function heldBy(
  owners: readonly Owner[],
  tenant: string,
  stored: ReadonlyMap<string, number>,
): Map<string, Map<number, number>> {
  const held = new Map<string, Map<number, number>>()
  const add = (series: string, time: number, value: number) => {
    if (!series.includes(METRIC)) return
    const samples = held.get(series) ?? new Map<number, number>()
    held.set(series, samples.set(time, value))
  }
  for (const [key, value] of stored)
    add(key.slice(0, key.lastIndexOf('@')), Number(key.slice(key.lastIndexOf('@') + 1)), value)
  const columns = new SampleColumns()
  for (const owner of owners) {
    const head = owner.state.heads.get(tenant)
    for (let ref = 0; ref < (head?.seriesCount ?? 0); ref++) {
      columns.clear()
      head!.readInto(ref, { startMs: Number.NEGATIVE_INFINITY, endMs: Number.POSITIVE_INFINITY }, columns)
      const series = labelsKey(head!.labelsOf(ref))
      for (let i = 0; i < columns.count; i++) add(series, columns.times[i]!, columns.values[i]!)
    }
  }
  return held
}

function shown(series: string): string {
  return series.replaceAll('\xff', ' ')
}
