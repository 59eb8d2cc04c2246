// Marks and flushes by hand, of all partitions that these ingesters lead (contracts/flush.ts).
import type { Bus } from '../bus/port.ts'
import { type FlushedPartition, type FlushRequest, flushNow } from '../contracts/flush.ts'
import { askMembers } from './ask-members.ts'

export interface FlushOutcome {
  readonly isDone: boolean
  readonly partitions: readonly (FlushedPartition & { readonly leader: string })[]
  /** Ingesters that did not answer, and why. */
  readonly failures: readonly string[]
}

export async function flushMembers(bus: Bus, ids: readonly string[], asked: FlushRequest): Promise<FlushOutcome> {
  const timeoutMs = asked.waitMs + flushNow.timeoutMs
  const members = ids.map((id) => ({ id }))
  const found = await askMembers(bus, members, flushNow, asked, { timeoutMs })
  const failures = found.failures.map(({ member, reason }) => `${member.id}: ${reason}`)
  const partitions = found.answers
    .flatMap(({ member, reply }) => reply.partitions.map((partition) => ({ ...partition, leader: member.id })))
    .sort((a, b) => a.partition - b.partition)
  const isDone = failures.length === 0 && partitions.length > 0 && partitions.every((partition) => partition.isDone)
  return { isDone, partitions, failures }
}
