// What everybody in a chaos run shares: the system, the ledger, moments, where violations and traces go, and the folder of evidence.
import { appendFileSync, mkdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { isPortFree } from '../../services/launcher/nats-server.ts'
import { identityOf, isRunning, type ProcessIdentity } from '../../services/launcher/process-identity.ts'
import { type Random, seededRandom } from '../../shared/base/random.ts'
import { findNatsServer } from '../cluster/nats-server.ts'
import { processesOf } from '../cluster/processes.ts'
import { freePort, type System, startSystem } from '../cluster/system.ts'
import { Ledger } from '../sim/ledger.ts'
import { Harm } from './harm.ts'

export interface ChaosOptions {
  readonly seed: number
  readonly minutes: number
  /** nats-servers. */
  readonly servers: 1 | 3
  /** Mishaps that do not happen, by name or by the first word of it. */
  readonly without: readonly string[]
  /** Dealt once, in this order, in place of the deck; the chaos is over with the last. */
  readonly hand?: readonly string[]
  /** Keeps everything: data, what the processes logged, what happened. */
  readonly folder: string
  readonly say: (text: string) => void
}

/** They send the very same series and times. */
export const TENANTS = ['alpha', 'beta', 'gamma'] as const
export const ERROR_ID_HEADER = 'X-Carillon-Error-Id'
/** Samples lie this far back, so that their ranges are over and may be merged. */
export const BACK_MS = 7 * 3_600_000
const ORPHAN_MS_MAX = 10_000
const FAULTS_KEPT_MAX = 2_000
const FAULTS_SAID_MAX = 20
const SAME_LETTERS = 150
const EVIDENCE_MAX = 12
/** Of each log: small enough that many partitions fit. */
const LOG_BYTES_MAX = '128MiB'

/** Of everybody. */
const common = ['--segment=10s', '--segment-min=5s', '--heartbeat=1s', '--unhealthy-after=6s']
const ofIngesters = ['--drop-after=5s', '--flush=500ms', '--checkpoint=1s', '--hand-over=40s']
const ofCompactors = [
  ...['--compact-every=1s', '--compact-delay=0s', '--retired-delay=5s', '--sweep-every=15s', '--orphan-grace=3m'],
  ...['--delete-undo=12s', '--lease=5s', '--late-ratio=0.05', '--damaged-retry=5s'],
]

export const ingesterArgs = [...common, ...ofIngesters]

export class Stage {
  readonly options: ChaosOptions
  readonly ledger = new Ledger()
  readonly harm = new Harm()
  readonly counts: Record<string, number> = {}
  readonly faults: string[] = []
  readonly startedAtMs = Date.now()
  /** Chaos, until everything is healed. */
  isChaos = true
  private readonly seen = new Map<string, ProcessIdentity>()
  private current: System | undefined
  private port = 0
  private turn = 0
  private evidenceCount = 0

  constructor(options: ChaosOptions) {
    this.options = options
    mkdirSync(options.folder, { recursive: true })
  }

  get system(): System {
    if (this.current === undefined) throw new Error('the system has not started')
    return this.current
  }

  get dataDir(): string {
    return join(this.options.folder, 'data')
  }

  /** Starts the system, anew on the same data and addresses. */
  async start(): Promise<void> {
    if (this.port === 0) this.port = await twoFreePorts()
    const found = findNatsServer()
    const { servers, folder } = this.options
    const copies =
      servers === 3
        ? []
        : ['--ingesters=2', '--replication-factor=2', '--gateways=2', '--distributors=2', '--queriers=2']
    this.current = await startSystem({
      command: servers === 3 ? 'cluster' : 'start',
      dataDir: this.dataDir,
      port: this.port,
      args: [
        ...[
          '--partitions=2',
          '--compactors=2',
          '--high-water=1s',
          ...copies,
          ...common,
          ...ofIngesters,
          ...ofCompactors,
        ],
        `--log-bytes-max=${LOG_BYTES_MAX}`,
      ],
      env: 'path' in found ? { CARILLON_NATS_SERVER: found.path } : {},
      onLog: (line) => appendFileSync(join(folder, 'processes.log'), `${line}\n`),
    })
    this.look()
  }

  /** Rises; milliseconds. */
  moment(): number {
    return performance.now()
  }

  random(name: string): Random {
    return seededRandom(
      this.options.seed * 1_000 + [...name].reduce((sum, letter) => sum * 31 + letter.charCodeAt(0), 7),
    )
  }

  /** Of a gateway, by turns. */
  url(): string {
    const addresses = this.system.ready.processes.flatMap(({ address }) => (address === undefined ? [] : [address]))
    return `http://${addresses[this.turn++ % addresses.length]!.replace('http://', '')}`
  }

  count(name: string, by = 1): void {
    this.counts[name] = (this.counts[name] ?? 0) + by
  }

  trace(text: string): void {
    appendFileSync(join(this.options.folder, 'trace.log'), `${this.when()} ${text}\n`)
  }

  /** The same thing is told once, however often it is met. */
  fault(text: string): void {
    this.trace(`VIOLATION ${text}`)
    this.count('violations met')
    const isKnown = this.faults.some((known) => known.slice(0, SAME_LETTERS) === text.slice(0, SAME_LETTERS))
    if (isKnown || this.faults.length === FAULTS_KEPT_MAX) return
    this.faults.push(text)
    if (this.faults.length <= FAULTS_SAID_MAX) this.options.say(`VIOLATION at ${this.when()}: ${text}`)
  }

  /** Keeps what shows a fault. */
  keep(name: string, content: unknown): void {
    if (++this.evidenceCount > EVIDENCE_MAX) return
    writeFileSync(join(this.options.folder, `${name}-${this.evidenceCount}.json`), JSON.stringify(content, null, 1))
  }

  /** Sleeps, at most until the chaos is over. */
  async pause(forMs: number): Promise<void> {
    const endMs = performance.now() + forMs
    while (this.isChaos && performance.now() < endMs) await sleep(Math.min(200, endMs - performance.now()))
  }

  /** Remembers the processes that run now. */
  look(more: readonly number[] = []): void {
    for (const pid of [...(this.current === undefined ? [] : processesOf(this.current)), ...more]) {
      const identity = identityOf(pid)
      if (identity !== undefined) this.seen.set(`${pid} ${identity.started}`, identity)
    }
  }

  /** Of all that ever ran: what runs still, a while after everything was told to end. */
  async orphans(but: readonly (number | undefined)[] = []): Promise<number[]> {
    const endMs = performance.now() + ORPHAN_MS_MAX
    for (;;) {
      const pids = [...this.seen.values()].filter(isRunning).map(({ pid }) => pid)
      const left = pids.filter((pid) => !but.includes(pid))
      if (left.length === 0 || performance.now() >= endMs) return left
      await sleep(100)
    }
  }

  private when(): string {
    return ((Date.now() - this.startedAtMs) / 1_000).toFixed(3).padStart(9)
  }
}

/** Gateways listen on the one and the next. */
async function twoFreePorts(): Promise<number> {
  for (let tries = 0; tries < 100; tries++) {
    const port = await freePort()
    if (await isPortFree(port + 1, '127.0.0.1')) return port
  }
  throw new Error('there are no two free ports side by side')
}
