// What more ingesters and more copies of everything cost: the same flat-out writes on the same partitions, the ring settled before.
import { setTimeout as sleep } from 'node:timers/promises'
import { ringOf } from '../cluster/ring.ts'
import type { IngestFigures } from './ingest.ts'
import type { Target } from './target.ts'

export interface Growth {
  readonly name: string
  readonly figures: IngestFigures
}

export interface Shape {
  readonly name: string
  readonly ingesters: number
  readonly replicationFactor: number
  /** `cluster`: three nats-servers, each log kept three times. */
  readonly command?: 'start' | 'cluster'
}

const PARTITIONS = 4
const INGESTERS_MAX = 3
const COPIES_MAX = 3
const RING_MS_MAX = 60_000

/** One owner of each partition, spread over more and more ingesters. */
export const scaleShapes: readonly Shape[] = Array.from({ length: INGESTERS_MAX }, (_, i) => ({
  name: i === 0 ? '1 ingester' : `${i + 1} ingesters`,
  ingesters: i + 1,
  replicationFactor: 1,
}))

/** The same ingesters, each partition owned by more and more of them. */
export const replicaShapes: readonly Shape[] = Array.from({ length: COPIES_MAX }, (_, i) => ({
  name: `RF ${i + 1}`,
  ingesters: INGESTERS_MAX,
  replicationFactor: i + 1,
}))

/** The same actors on one nats-server, and on three that keep every log three times. */
export const serverShapes: readonly Shape[] = [
  { name: 'one nats-server', ingesters: INGESTERS_MAX, replicationFactor: 1 },
  { name: 'three nats-servers', ingesters: INGESTERS_MAX, replicationFactor: 1, command: 'cluster' },
]

export function argsOf({ ingesters, replicationFactor }: Shape): string[] {
  const counts = ['--gateways=1', '--distributors=1', '--queriers=1', `--ingesters=${ingesters}`]
  return [...counts, `--partitions=${PARTITIONS}`, `--replication-factor=${replicationFactor}`]
}

/** Waits until every partition takes series and has all its owners, and every ingester owns something. */
export async function untilSpread(target: Target, { ingesters, replicationFactor }: Shape): Promise<void> {
  for (const endMs = performance.now() + RING_MS_MAX; performance.now() < endMs; await sleep(200)) {
    const { partitions } = await ringOf(target.queryUrl())
    const owners = partitions.map((partition) => partition.owners.filter(({ hasCaughtUp }) => hasCaughtUp))
    const isServed = partitions.every(({ isWritable }, i) => isWritable && owners[i]!.length === replicationFactor)
    const ids = new Set(owners.flat().map(({ id }) => id))
    if (partitions.length === PARTITIONS && isServed && ids.size === ingesters) return
  }
  throw new Error(`the ring was not spread over ${ingesters} ingesters within ${RING_MS_MAX} ms`)
}
