// What the state of a partition forgets, so that memory and log stay level while series and tenants come and go (STATE-4).
import type { Head } from '../../../shared/tsdb/head/head.ts'
import type { PartitionState } from './partition-state.ts'
import type { SessionDictionary } from './session-dictionary.ts'

/** A head is compacted when so many of its series are dead, and such a share of them. */
const DEAD_MIN = 64
const DEAD_SHARE = 1 / 4
/** What was told of a tenant's metrics goes when it was silent for more segments than these: 12 h, as segments are. */
const SEGMENTS_SILENT_MAX = 24

/** A tenant that has written nothing for so long that no samples of it are in memory. */
export function isSilent(head: Head): boolean {
  return head.sampleCount === 0
}

/** STATE-4: drops series that hold nothing and that no session names, where they are many; heads that have no other; what was told of the metrics
 *  of tenants that are gone. Which series an answer names does not depend on it. */
export function forgetDead(state: PartitionState, sessions: Iterable<SessionDictionary>, keepsSilent: boolean): void {
  const { heads } = state
  const isNamed = new Map<Head, Uint8Array>()
  for (const head of heads.values()) isNamed.set(head, new Uint8Array(head.seriesCount))
  const living = [...sessions]
  for (const session of living) session.mark(isNamed)
  const renamed = new Map<Head, Uint32Array>()
  for (const [tenant, head] of heads) {
    const marks = isNamed.get(head)!
    // What was told in the newest flushed segment is stated again only with the next flush.
    if (isSilent(head) && !head.hasExemplarsToldSince(state.droppedUpTo) && !marks.includes(1)) {
      head.dispose() // and the exemplars that nobody stated again
      heads.delete(tenant)
      continue
    }
    const deadCount = head.deadCount(marks)
    if (deadCount < DEAD_MIN || deadCount < head.seriesCount * DEAD_SHARE) continue
    renamed.set(head, head.compact(marks))
  }
  if (!keepsSilent) forgetTold(state)
  if (renamed.size > 0) for (const session of living) session.rename(renamed)
}

function forgetTold(state: PartitionState): void {
  const { metadata } = state
  for (const tenant of metadata.tenantsHeld()) if (isLongSilent(state, tenant)) metadata.forget(tenant, () => true)
}

/** It is forgotten, and for long nothing was told of its metrics: that is not stated again for ever either. Senders tell each minute; one that
 *  tells only once is not forgotten while it writes. */
function isLongSilent({ heads, metadata, segment }: PartitionState, tenant: string): boolean {
  return !heads.has(tenant) && segment - metadata.newestOf(tenant) > SEGMENTS_SILENT_MAX
}
