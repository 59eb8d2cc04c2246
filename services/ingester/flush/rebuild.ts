// Stores damaged files of a flushed block anew, while the segment that it was made of is still in memory: its bytes are the same (LOG-13).
import { blockPrefix } from '../../../shared/contracts/blocks.ts'
import type { RebuildReply, RebuildRequest } from '../../../shared/contracts/scrubbing.ts'
import { encodeTenant } from '../../../shared/model/tenant.ts'
import type { Owner } from '../log/owner.ts'
import { assertHeld, buildSegment, type FlushDeps } from './flush.ts'

const OBJECT_TIMEOUT_MS = 30_000

/** Nothing is deleted before the right bytes are in hand. */
export async function rebuildBlock(owner: Owner, asked: RebuildRequest, deps: FlushDeps): Promise<RebuildReply> {
  const { tenant, segment, ulid, metaSha256 } = asked
  const { state } = owner
  if (!owner.isCaughtUp || segment <= state.droppedUpTo || segment >= state.segment) return { outcome: 'not-held' }
  const built = await buildSegment(owner, { tenant, segment }, deps)
  const block = built.find(({ entry }) => entry.ulid === ulid && entry.metaSha256 === metaSha256)
  if (block === undefined) return { outcome: 'differs' }
  const { objects } = deps.blocks
  for (const { name, bytes } of block.files) {
    if (!asked.files.includes(name)) continue
    assertHeld(owner, state) // FLUSH-5
    const object = `${blockPrefix(encodeTenant(tenant), ulid)}${name}`
    await objects.delete(object, { timeoutMs: OBJECT_TIMEOUT_MS })
    await objects.create(object, bytes, { timeoutMs: OBJECT_TIMEOUT_MS, readBack: true })
    deps.log.warn({ tenant, ulid, file: name }, 'a damaged file of a block was made again from memory')
  }
  return { outcome: 'stored' }
}
