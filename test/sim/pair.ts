// An HA pair in a simulated history: two replicas scrape the same counter, each at moments of its own and by a clock that is a little off,
// and send what they scraped in order, each push again until it is answered. Now and then one is down, or scrapes on and cannot send.
//
// What is stored must look as if one Prometheus had sent it: one set of series, in reigns that share no time (LOG-22), a counter that never goes
// back, and nothing missing of what was answered as written.
import { UnavailableError } from '../../shared/base/errors.ts'
import { ask } from '../../shared/bus/ask.ts'
import type { Bus } from '../../shared/bus/port.ts'
import { ELECTIONS_BUCKET, electionKey, electionRecord } from '../../shared/contracts/elections.ts'
import { push } from '../../shared/contracts/write.ts'
import { labelsFrom } from '../../shared/model/labels.ts'
import { encodeWriteV1 } from '../../shared/wire/remote-write-encode.ts'
import { compress } from '../../shared/wire/snappy.ts'
import { valueIn } from '../records.ts'
import type { Samples } from './reader.ts'
import type { Scene } from './scene.ts'

export const PAIR_QUERY = 'requests_total[5h]'
const METRIC = 'requests_total'
const CLUSTER = 'eu'
const SCRAPE_MS = 120
const SCRAPES_PER_PUSH_MAX = 6
const INSTANCES = ['0', '1']
/** How far a replica's clock is off: less than a bound reaches ahead. */
const OFF_MS_MAX = 60
const FAULTS_SHOWN_MAX = 3
const TRIES_MAX = 300

/** What distributors of such a history go by: takeovers within a second. */
export const pairTimes = { haRenewMs: 150, haKvGraceMs: 300, haTakeoverMs: 700 }

interface Scrape {
  readonly time: number
  readonly value: number
}

export class Pair {
  private readonly scene: Scene
  private readonly tenant: string
  /** Times that were answered as written. */
  private readonly written = new Set<number>()

  constructor(scene: Scene, tenant: string) {
    this.scene = scene
    this.tenant = tenant
  }

  /** The replica's number is the parity of its sample times: what is stored says who sent it. */
  async replica(number: 0 | 1): Promise<void> {
    const { scene } = this
    const { clock } = scene
    const bus = scene.hub.connect(`replica-${number}`)
    const random = scene.plan.random(`replica ${number}`)
    const offMs = random.below(2 * OFF_MS_MAX) - OFF_MS_MAX
    const queue: Scrape[] = []
    let wakesAtMs = 0
    let reachesUsAtMs = 0
    let tries = 0 // it ends with nothing of it on the way
    for (let scrapedMs = random.below(SCRAPE_MS); scene.isChaos() || (tries > 0 && tries < TRIES_MAX); ) {
      const nowMs = clock.monotonic()
      for (; scrapedMs <= nowMs; scrapedMs += SCRAPE_MS) {
        if (scrapedMs < wakesAtMs) continue // it is down and scrapes nothing
        const time = Math.floor((clock.startMs + scrapedMs + offMs) / 2) * 2 + number
        queue.push({ time, value: scrapedMs })
      }
      const some = nowMs < Math.max(wakesAtMs, reachesUsAtMs) ? [] : queue.slice(0, SCRAPES_PER_PUSH_MAX)
      const isAnswered = some.length > 0 && (await this.isPushed(number, bus, some))
      tries = some.length > 0 && !isAnswered ? tries + 1 : 0
      if (isAnswered) queue.splice(0, some.length)
      const chance = random.next()
      if (chance < 0.03) wakesAtMs = clock.monotonic() + 300 + random.below(2_000)
      else if (chance < 0.06) reachesUsAtMs = clock.monotonic() + 300 + random.below(2_000)
      if (wakesAtMs > clock.monotonic()) queue.length = 0
      await scene.sleep(20 + random.below(80))
    }
    if (tries > 0) scene.fault(`a push of replica ${number} was never acknowledged`)
  }

  private async isPushed(number: 0 | 1, bus: Bus, scrapes: readonly Scrape[]): Promise<boolean> {
    const series = INSTANCES.map((instance) => ({
      labels: labelsFrom({ __name__: METRIC, __replica__: `r${number}`, cluster: CLUSTER, instance }),
      samples: scrapes,
    }))
    try {
      const request = { protocol: 1, body: compress(encodeWriteV1({ series })) } as const
      const { dropped } = await ask(bus, push, { tenant: this.tenant }, request, { timeoutMs: 1_500 })
      if (dropped === undefined) for (const { time } of scrapes) this.written.add(time)
      return true
    } catch (error) {
      if (!(error instanceof UnavailableError)) this.scene.fault(`a push of a replica is refused: ${String(error)}`)
      return false // it sends the same again
    }
  }

  /** How often another replica took over, by the record of the election. */
  takeovers(): number {
    const entry = this.scene.hub.bucket(ELECTIONS_BUCKET)?.get(electionKey(this.tenant, CLUSTER))
    return entry?.value ? valueIn(electionRecord, entry.value).takeovers : 0
  }

  /** What is wrong with what a strong read shows of the pair. */
  faultsIn(shown: Samples): string[] {
    const faults: string[] = []
    const takeovers = this.takeovers()
    if (shown.size > INSTANCES.length) faults.push(`of an HA pair more than one set of series: ${[...shown.keys()]}`)
    for (const [series, samples] of shown) {
      const rows = [...samples].map(([time, value]) => [time, Number(value)] as const).sort(([a], [b]) => a - b)
      const isOther = (i: number) => i > 0 && (rows[i]![0] & 1) !== (rows[i - 1]![0] & 1)
      const reigns = 1 + rows.filter((_, i) => isOther(i)).length
      if (reigns > takeovers + 1) faults.push(`${series}: ${reigns} reigns share time, with ${takeovers} takeovers`)
      const back = rows.findIndex(([, value], i) => i > 0 && value <= rows[i - 1]![1])
      if (back > 0) faults.push(`${series}: the counter goes back from ${rows[back - 1]} to ${rows[back]}`)
      const lost = [...this.written].filter((time) => !samples.has(time))
      if (lost.length > 0) faults.push(`${series}: ${lost.length} samples answered as written are lost: ${lost[0]}`)
    }
    if (shown.size === 0 && this.written.size > 0) faults.push('all of an HA pair is lost')
    return faults.slice(0, FAULTS_SHOWN_MAX)
  }
}
