// What must hold once everything has healed: all that was begun has come to its end, every tenant can be read, and what is stored agrees.
import { setTimeout as sleep } from 'node:timers/promises'
import { textOf } from '../../shared/base/errors.ts'
import { logName } from '../../shared/contracts/log.ts'
import type { FlushOutcome } from '../../shared/membership/flush-members.ts'
import {
  type OwnerStatus,
  type PartitionsPage,
  partitionsOf,
  readMessages,
  settled,
  withBus,
  withStored,
} from '../cluster/check.ts'
import { ringOf } from '../cluster/ring.ts'
import { readLog } from '../sim/log-model.ts'
import { readStored } from '../sim/stored.ts'
import { readOnce, wholeOf } from './clients.ts'
import { deletionsOf } from './deleter.ts'
import { soundOf } from './harm.ts'
import { type Stage, TENANTS } from './stage.ts'

/** Several segments, windows, leases and retries, on a busy machine. */
const END_MS_MAX = 300_000
const LOOK_MS = 500
const READ_TRIES_MAX = 60
const ENDED: ReadonlySet<string> = new Set(['removed', 'undone'])

/** Waits until nothing is left to do; tells what is. */
export async function comesToItsEnd(stage: Stage): Promise<void> {
  await eventuallyNothing(stage, 'the system is ready', async () => {
    const response = await fetch(`${stage.system.url}/-/ready`)
    return response.ok ? [] : [await response.text()]
  })
  await eventuallyNothing(stage, 'every partition is served and takes series', () => unserved(stage))
  const closed = await closedSegments(stage)
  await eventuallyNothing(stage, 'every segment that is closed is in blocks', () => unflushed(stage, closed))
  await eventuallyNothing(stage, 'every damage is settled', () => unsettled(stage))
  await eventuallyNothing(stage, 'every deletion has ended', () => unended(stage))
}

async function eventuallyNothing(stage: Stage, what: string, left: () => Promise<readonly string[]>): Promise<void> {
  const endMs = performance.now() + END_MS_MAX
  let last: readonly string[] = ['it was not looked at']
  while (performance.now() < endMs) {
    last = await left().catch((error: unknown) => [textOf(error)])
    if (last.length === 0) return stage.trace(`at the end: ${what}`)
    await sleep(LOOK_MS)
  }
  stage.fault(`not within ${END_MS_MAX} ms: ${what}: ${last.slice(0, 10).join('; ')}`)
  stage.keep('partitions', await partitionsOf(stage.system.url).catch(textOf))
}

async function unserved(stage: Stage): Promise<string[]> {
  const { partitions, partitionCount, writableCount } = await ringOf(stage.system.url)
  return [
    ...partitions.filter(({ state }) => state !== 'served').map(({ partition, state }) => `${partition} is ${state}`),
    ...(writableCount < partitionCount ? [`${writableCount} of ${partitionCount} take series`] : []),
  ]
}

/** Opens the next segments; gives the last closed ones, by partition. */
async function closedSegments(stage: Stage): Promise<ReadonlyMap<number, number>> {
  const closed = new Map<number, number>()
  await eventuallyNothing(stage, 'the next segments are open', async () => {
    const { data } = await post<{ data: FlushOutcome }>(`${stage.system.url}/api/v1/admin/mark?wait=20s`)
    const { partitionCount } = await partitionsOf(stage.system.url)
    for (const { partition, segment, isDone } of data.partitions) if (isDone) closed.set(partition, segment - 1)
    return closed.size === partitionCount ? [] : [`${closed.size} of ${partitionCount}`, ...data.failures]
  })
  return closed
}

async function post<T>(url: string): Promise<T> {
  const response = await fetch(url, { method: 'POST', signal: AbortSignal.timeout(60_000) })
  if (!response.ok) throw new Error(`${url} is answered ${response.status}`)
  return (await response.json()) as T
}

/** `flushed.<p>` is at the last closed segment, and every owner knows. */
async function unflushed(stage: Stage, closed: ReadonlyMap<number, number>): Promise<string[]> {
  const page = await partitionsOf(stage.system.url)
  return ownersOf(page).flatMap(({ id, partition, flushed }) =>
    flushed < (closed.get(partition) ?? 0)
      ? [`${id}: ${partition} is flushed to ${flushed}, ${closed.get(partition)} is closed`]
      : [],
  )
}

async function unsettled(stage: Stage): Promise<string[]> {
  const page = await partitionsOf(stage.system.url)
  const all = ownersOf(page).flatMap(({ id, partition, damage }) =>
    damage.map((text) => `${id}: ${partition}: ${text}`),
  )
  stage.counts['damage entries that owners name'] = all.length
  return all.filter((text) => text.endsWith('(open)'))
}

function ownersOf({ partitions }: PartitionsPage): (OwnerStatus & { partition: number })[] {
  return partitions.flatMap(({ partition, assignedTo, owners }) => {
    const missing = assignedTo.filter((id) => !owners.some((owner) => owner.id === id))
    if (missing.length > 0 || assignedTo.length === 0) throw new Error(`of ${partition} no owner answers: ${missing}`)
    return owners.map((owner) => ({ ...owner, partition }))
  })
}

async function unended(stage: Stage): Promise<string[]> {
  const all = await Promise.all(TENANTS.map((tenant) => deletionsOf(stage, tenant)))
  stage.counts['deletions that ended'] = all.flat().filter(({ state }) => ENDED.has(state)).length
  return all.flat().flatMap(({ id, state }) => (ENDED.has(state) ? [] : [`${id} is ${state}`]))
}

// ---- judging ----

/** Every tenant is read whole, and what is stored is held against the ledger. */
export async function judge(stage: Stage): Promise<void> {
  for (const tenant of TENANTS)
    if (!(await readsWhole(stage, tenant))) stage.fault(`${tenant} cannot be read when all is well`)
  const { url, ready } = stage.system
  await withBus(ready, async (bus) => {
    const { partitions, partitionCount } = await settled(url, bus)
    const disagreeing = partitions.filter(({ digestsAgree }) => digestsAgree === false)
    if (disagreeing.length > 0) stage.fault(`owners disagree: ${JSON.stringify(disagreeing)}`)
    for (let partition = 0; partition < partitionCount; partition++) {
      const messages = await readMessages(bus, logName(partition))
      const { doubledBatches } = readLog(partition, soundOf(partition, messages) as typeof messages)
      if (doubledBatches.length > 0) stage.fault(`log ${partition} holds batches twice: ${doubledBatches.join(' ')}`)
    }
    await withStored({ bus, nats: ready }, async (blocks) => {
      for (const tenant of TENANTS) {
        const stored = await readStored(blocks, { tenant, partitionCount, mayHaveGaps: stage.harm.isThere })
        stage.count('samples in blocks', stored.values.size)
        stage.count('merged blocks', stored.mergedCount)
        for (const text of stored.faults) stage.fault(`${tenant}: ${text}`)
        const removed = (await deletionsOf(stage, tenant)).filter(({ state }) => state === 'removed')
        const of = { removed: new Set(removed.map(({ id }) => id)), moment: stage.moment() }
        for (const text of stage.ledger.storedAgainst(tenant, stored.values, of)) stage.fault(text)
      }
    })
  })
}

async function readsWhole(stage: Stage, tenant: string): Promise<boolean> {
  for (let tries = 0; tries < READ_TRIES_MAX; tries++) {
    if (await readOnce(stage, tenant, wholeOf(stage))) return true
    await sleep(1_000)
  }
  return false
}
