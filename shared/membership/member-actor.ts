// What every actor answers about itself, added to its own table: metrics and status (contracts/member.ts).
import { type Actor, serve } from '../bus/actor.ts'
import { metrics, type PartitionStatus, type Role, status } from '../contracts/member.ts'
import type { ServiceDeps } from './deps.ts'

/** An actor that owns partitions says how they stand. */
export type MemberActor = Actor & { partitions?(): readonly PartitionStatus[] }

export function asMember(actor: MemberActor, deps: ServiceDeps & { readonly role: Role }): Actor {
  const { id, role, incarnation } = deps
  return {
    ...actor,
    serves: [
      ...actor.serves,
      serve(metrics, async () => ({ text: await deps.metrics.text() }), { id }),
      serve(status, async () => ({ id, role, incarnation, partitions: actor.partitions?.() ?? [] }), { id }),
    ],
  }
}
