// What tests ask and do to a system on three nats-servers: who leads a log, to whom an actor is connected, how long nothing was acknowledged.
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { eventually, until, WAIT_MS } from '../waiting.ts'
import type { Load } from './load.ts'
import type { NatsPlace } from './nats-place.ts'
import { connectPlain, type PlainNats } from './nats-plain.ts'
import type { Ready, System } from './system.ts'

export const serverIds = ['nats-a', 'nats-b', 'nats-c']

/** The server that leads a partition's log, as soon as one does. */
export function leaderOf({ ready }: { ready: Pick<Ready, 'nats' | 'natsUserFile'> }, partition = 0): Promise<string> {
  return eventually(`the log of partition ${partition} has a leader`, WAIT_MS, () =>
    withNats(ready, {}, async (nats) => {
      const { bytes } = await nats.request(`$JS.API.STREAM.INFO.cln-log-${partition}`, '')
      const { cluster } = JSON.parse(Buffer.from(bytes).toString()) as { cluster?: { leader?: string } }
      return cluster?.leader || undefined
    }),
  )
}

/** Has a server lead a partition's log, as soon as it has all of it. */
export async function leadBy(system: System, server: string, partition = 0): Promise<void> {
  await withNats(system.ready, {}, async (nats) => {
    const wanted = JSON.stringify({ placement: { preferred: server } })
    await until(`${server} leads partition ${partition}`, async () => {
      if ((await leaderOf(system, partition)) === server) return true
      await nats.request(`$JS.API.STREAM.LEADER.STEPDOWN.cln-log-${partition}`, wanted)
      await sleep(500)
      return false
    })
  })
}

/** The server that an actor is connected to. */
export async function serverOf({ ready }: System, id: string): Promise<string> {
  const [user, pass] = readFileSync(join(ready.data, 'nats', 'system-user'), 'utf8')
    .trim()
    .split(':') as [string, string]
  return withNats(ready, { user, pass }, async (nats) => {
    const heard = nats.listen('answers')
    const held = () => {
      nats.publish('$SYS.REQ.SERVER.PING.CONNZ', '', {}, 'answers')
      for (const { bytes } of heard) {
        const { server, data } = JSON.parse(Buffer.from(bytes).toString()) as Connections
        if (data.connections?.some(({ name }) => name === id)) return server.name
      }
      return undefined
    }
    return await eventually(`some server has a connection of ${id}`, WAIT_MS, held)
  })
}

interface Connections {
  readonly server: { readonly name: string }
  readonly data: { readonly connections?: readonly { readonly name: string }[] }
}

async function withNats<T>(
  place: NatsPlace,
  credentials: { user?: string; pass?: string },
  use: (nats: PlainNats) => Promise<T>,
): Promise<T> {
  const nats = await connectPlain(place, credentials)
  try {
    return await use(nats)
  } finally {
    await nats.close()
  }
}

/** Waits until pushes that began after now get through steadily again; resolves with the longest time without an acknowledgement. */
export async function ackGap(what: string, load: Load, waitMs = 40_000): Promise<number> {
  const fromMs = performance.now()
  const since = () => load.acknowledgedAtMs().filter((atMs) => atMs >= fromMs)
  await sleep(3_000) // what was on its way, and what a leader still takes before it is missed
  await until(
    `${what}: pushes are acknowledged again`,
    () => since().some((atMs) => atMs > performance.now() - 500),
    waitMs,
  )
  await sleep(2_000)
  const times = [fromMs, ...since(), performance.now()]
  return Math.max(...times.slice(1).map((atMs, i) => atMs - times[i]!))
}
