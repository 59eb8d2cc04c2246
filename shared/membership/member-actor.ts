// What every actor answers about itself, added to its own table: metrics, status and readiness (contracts/member.ts).
import { type Actor, serve } from '../bus/actor.ts'
import { metrics, type PartitionStatus, type Role, readiness, ring, status } from '../contracts/member.ts'
import type { ServiceDeps } from './deps.ts'

/** An actor that owns partitions says how they stand, and leaves when others hold what it held. */
export type MemberActor = Actor & {
  partitions?(): readonly PartitionStatus[]
  /** What keeps it from its work now, in words, and whose turn it is. Answers within a second. One for whom there is nothing is ACTIVE. */
  lacks?(): readonly string[] | Promise<readonly string[]>
  /** Reads again what may change while it runs. Throws what is wrong with it. */
  reload?(): void
  /** Resolves when this actor may stop; it is LEAVING and serves on until then. */
  handOver?(): Promise<void>
}

export function asMember(actor: MemberActor, deps: ServiceDeps & { readonly role: Role }): Actor {
  const { id, role, incarnation } = deps
  return {
    ...actor,
    serves: [
      ...actor.serves,
      serve(metrics, async () => ({ text: await deps.metrics.text() }), { id }),
      serve(ring, async () => deps.membership.ring(), { queue: 'ring' }),
      serve(readiness, async () => ({ lacks: (await actor.lacks?.()) ?? [] }), { id }),
      serve(status, async () => ({ id, role, incarnation, partitions: actor.partitions?.() ?? [] }), { id }),
    ],
  }
}
