// Growing and shrinking a running system, for tests: actors started beside the launcher's own, the ring as it is told, and readers that
// check every answer while that goes on.
import { type ChildProcess, spawn } from 'node:child_process'
import { setTimeout as sleep } from 'node:timers/promises'
import type { RingReply } from '../../shared/contracts/member.ts'
import { until } from '../waiting.ts'
import { getJson } from './check.ts'
import type { Ledger } from './ledger.ts'
import { type NatsPlace, natsFlags } from './nats-place.ts'
import { endProcess } from './system.ts'

const ROOT = new URL('../..', import.meta.url).pathname

export interface Actor {
  readonly id: string
  readonly process: ChildProcess
  /** SIGTERM; resolves with the exit code. */
  stop(): Promise<number | null>
}

export interface ActorOptions {
  readonly nats: NatsPlace
  readonly id: string
  readonly args?: readonly string[]
  /** Put before the command, as to run it in a network namespace. */
  readonly within?: readonly string[]
}

/** One more actor on the system's NATS, as anybody would start it. */
export function startActor(role: string, options: ActorOptions): Actor {
  const { nats, id, args = [], within = [] } = options
  const line = [...within, process.execPath, 'services/carillon.mjs', role, ...natsFlags(nats), '--id', id, ...args]
  const child = spawn(line[0]!, line.slice(1), {
    cwd: ROOT,
    stdio: ['ignore', 'ignore', 'pipe'],
  })
  const words: string[] = []
  child.stderr!.on('data', (chunk: Buffer) => {
    words.push(chunk.toString())
    if (words.length > 200) words.shift()
  })
  return {
    id,
    process: child,
    async stop() {
      await endProcess(child)
      if (child.exitCode !== 0) throw new Error(`${id} ended with ${child.exitCode}:\n${words.join('').slice(-3000)}`)
      return child.exitCode
    },
  }
}

/** One command to its end. */
export async function carillon(args: readonly string[]): Promise<{ code: number | null; out: string; err: string }> {
  const child = spawn(process.execPath, ['services/carillon.mjs', ...args], {
    cwd: ROOT,
    stdio: ['ignore', 'pipe', 'pipe'],
  })
  let out = ''
  let err = ''
  child.stdout.on('data', (chunk: Buffer) => {
    out += chunk.toString()
  })
  child.stderr.on('data', (chunk: Buffer) => {
    err += chunk.toString()
  })
  const code = await new Promise<number | null>((resolve) => child.once('close', resolve))
  return { code, out, err }
}

export async function ringOf(url: string): Promise<RingReply> {
  return (await getJson<{ data: RingReply }>(`${url}/api/v1/status/ring`)).data
}

/** Resolves when these ingesters and no others are ACTIVE, own something, and every partition is served by its owners alone. */
export async function ringServedBy(url: string, ids: readonly string[], waitMs = 40_000): Promise<RingReply> {
  let ring: RingReply | undefined
  try {
    await until(
      `partitions are served by ${ids.join(', ')}`,
      async () => {
        ring = await ringOf(url)
        const ingesters = ring.members.filter(({ role }) => role === 'ingester')
        const areThere = ids.every((id) => ingesters.some((each) => each.id === id && each.state === 'ACTIVE'))
        const owners = new Set(ring.partitions.flatMap((row) => row.owners.map(({ id }) => id)))
        const isTheirs = owners.size === ids.length && ids.every((id) => owners.has(id))
        return (
          areThere && isTheirs && ring.partitions.every((row) => row.state === 'served' && row.alsoHeldBy.length === 0)
        )
      },
      waitMs,
    )
  } catch (error) {
    throw new Error(`the ring is ${JSON.stringify(ring)}`, { cause: error })
  }
  return ring!
}

export interface ReadFault {
  /** `incomplete` is an answer that lacks what was acknowledged before the question, or has what nobody sent. */
  readonly kind: 'failed' | 'incomplete'
  readonly consistency: 'strong' | 'eventual'
  readonly atMs: number
  readonly text: string
}

export interface Readers {
  readonly answered: { strong: number; eventual: number }
  readonly faults: readonly ReadFault[]
  /** Ends reading. */
  end(): Promise<void>
  /** Ends reading; rejects with every query that failed or was not complete. */
  stop(): Promise<void>
}

const LAG_MS = 5_000
const PAUSE_MS = 50
const QUERY = 'sum(count_over_time(load_float[3h]))'

/** Counts everything, over and over: strongly all that was acknowledged before the question, else all that was some seconds before.
 *  With several gateways it asks them by turns, and another one when the first cannot be reached. */
export function startReaders(gateways: string | readonly string[], ledger: Ledger): Readers {
  const urls = [gateways].flat()
  const answered = { strong: 0, eventual: 0 }
  const faults: ReadFault[] = []
  const past: { atMs: number; least: number }[] = []
  let isStopping = false
  let turn = 0
  const running = Promise.all([read('strong'), read('eventual')])
  return {
    answered,
    faults,
    async end() {
      isStopping = true
      await running
    },
    async stop() {
      isStopping = true
      await running
      const texts = faults.map(({ text }) => text)
      if (texts.length > 0) throw new Error(`${texts.length} queries failed:\n${texts.slice(0, 10).join('\n')}`)
    },
  }

  async function read(consistency: 'strong' | 'eventual'): Promise<void> {
    while (!isStopping) {
      const atMs = performance.now()
      const now = total(ledger).least
      if (consistency === 'eventual') past.push({ atMs, least: now })
      while (past.length > 1 && past[1]!.atMs < atMs - LAG_MS) past.shift()
      const old = past[0] !== undefined && past[0].atMs < atMs - LAG_MS ? past[0].least : 0
      await ask(consistency, consistency === 'strong' ? now : old, atMs)
      await sleep(PAUSE_MS)
    }
  }

  async function ask(consistency: 'strong' | 'eventual', least: number, atMs: number): Promise<void> {
    const where = `${consistency} at ${new Date().toISOString().slice(11, 23)}`
    const fault = (kind: ReadFault['kind'], text: string) =>
      faults.push({ kind, consistency, atMs, text: `${where}: ${text}` })
    try {
      const response = await fetchFrom(turn++, consistency === 'strong' ? { 'X-Read-Consistency': 'strong' } : {})
      const text = await response.text()
      const took = `${(performance.now() - atMs).toFixed(0)} ms`
      if (!response.ok) return void fault('failed', `${response.status} after ${took}: ${text.slice(0, 400)}`)
      const { data, warnings } = JSON.parse(text) as {
        data: { result: { value: [number, string] }[] }
        warnings?: string[]
      }
      const count = Number(data.result[0]?.value[1] ?? 0)
      if (warnings !== undefined) fault('failed', `warnings ${warnings.join('; ')}`)
      if (count < least || count > total(ledger).most) fault('incomplete', `counted ${count}, at least ${least}`)
      answered[consistency]++
    } catch (error) {
      fault('failed', String(error))
    }
  }

  /** One that is restarted breaks its connections: whoever has several gateways asks the next one then. */
  async function fetchFrom(first: number, headers: Record<string, string>): Promise<Response> {
    const params = new URLSearchParams({ query: QUERY, time: String(Date.now() / 1000 + 3600) })
    for (let tries = 1; ; tries++) {
      const url = urls[(first + tries) % urls.length]
      try {
        return await fetch(`${url}/api/v1/query?${params}`, { headers, signal: AbortSignal.timeout(30_000) })
      } catch (error) {
        if (!(error instanceof TypeError) || tries >= urls.length) throw error
      }
    }
  }
}

function total(ledger: Ledger): { least: number; most: number } {
  let least = 0
  let most = 0
  for (const count of ledger.counts('load_float').values()) {
    least += count.least
    most += count.most
  }
  return { least, most }
}
