// How much an acknowledged append survives, asked from the servers themselves. Only the system account (or the monitoring
// page) tells whether every write is flushed; where several servers answer, the weakest one decides.
import { connect } from '@nats-io/transport-node'
import { textOf } from '../../base/errors.ts'
import type { Durability, ServerFacts } from '../port.ts'
import type { NatsLink } from './nats-message.ts'

const askMs = 1_000
const listenMs = 300

export interface FactsDeps {
  readonly link: NatsLink
  readonly servers: string | readonly string[]
  readonly system: { readonly user: string; readonly password: string } | undefined
  readonly varzUrl: string | undefined
}

interface Varz {
  readonly server_name?: string
  readonly jetstream?: { readonly config?: { readonly sync_always?: boolean; readonly store_dir?: string } }
}

type Judgement = Pick<ServerFacts, 'durability' | 'durabilityReason'>

const weakestFirst: readonly Durability[] = ['best-effort', 'unknown', 'process-crash-safe', 'power-loss-safe']

export async function askServerFacts(deps: FactsDeps): Promise<ServerFacts> {
  const { nc } = deps.link
  const base = { version: nc.info?.version ?? 'unknown', url: nc.getServer() }
  const withoutJetStream = await lacksJetStream(deps.link)
  if (withoutJetStream !== undefined) return { ...base, durability: 'best-effort', durabilityReason: withoutJetStream }
  try {
    const answers = deps.varzUrl !== undefined ? [await fetchVarz(deps.varzUrl)] : await askSystemAccount(deps)
    if (answers === undefined) {
      return {
        ...base,
        durability: 'unknown',
        durabilityReason:
          'no system account or monitoring address is configured, and only those tell how the server flushes',
      }
    }
    return { ...base, ...weakest(answers) }
  } catch (error) {
    return {
      ...base,
      durability: 'unknown',
      durabilityReason: `the server did not tell how it flushes: ${textOf(error)}`,
    }
  }
}

async function lacksJetStream(link: NatsLink): Promise<string | undefined> {
  try {
    await link.api.call('INFO', undefined, askMs)
    return undefined
  } catch (error) {
    if (link.nc.info?.jetstream === true) return undefined
    return `JetStream does not answer: ${textOf(error)}`
  }
}

function weakest(answers: readonly Varz[]): Judgement {
  const judged = answers.map(judge)
  judged.sort((a, b) => weakestFirst.indexOf(a.durability) - weakestFirst.indexOf(b.durability))
  return judged[0] ?? { durability: 'unknown', durabilityReason: 'no server answered the system account' }
}

function judge(varz: Varz): Judgement {
  const name = varz.server_name ?? 'the server'
  const config = varz.jetstream?.config
  if (config === undefined) return { durability: 'best-effort', durabilityReason: `${name} runs without JetStream` }
  if (config.sync_always === true) {
    return { durability: 'power-loss-safe', durabilityReason: `${name} flushes every write (sync_interval: always)` }
  }
  return {
    durability: 'process-crash-safe',
    durabilityReason: `${name} leaves flushing to the system: sync_interval is not "always"`,
  }
}

async function fetchVarz(url: string): Promise<Varz> {
  const response = await fetch(url, { signal: AbortSignal.timeout(askMs) })
  return (await response.json()) as Varz
}

/** Every server's answer within a short while; undefined when we have no user of the system account. */
async function askSystemAccount({ servers, system }: FactsDeps): Promise<Varz[] | undefined> {
  if (system === undefined) return undefined
  const nc = await connect({
    servers: typeof servers === 'string' ? servers : [...servers],
    user: system.user,
    pass: system.password,
    name: 'carillon durability check',
    timeout: askMs,
    maxReconnectAttempts: 0,
  })
  try {
    const answers: Varz[] = []
    const options = { strategy: 'stall' as const, maxWait: askMs, stall: listenMs }
    for await (const msg of await nc.requestMany('$SYS.REQ.SERVER.PING.VARZ', '', options)) {
      const { data } = msg.json<{ data?: Varz }>()
      if (data !== undefined) answers.push(data)
    }
    return answers
  } finally {
    await nc.close()
  }
}
