// Whether a block that was built of a segment is among the stored ones, under whatever names. Digests tell of the newest segments only, and of
// all tenants at once; an owner that was away for longer, or lacks one tenant's samples, must not store all it holds a second time.
import { CorruptError } from '../../../shared/base/errors.ts'
import type { Blocks } from '../../../shared/blocks/port.ts'
import type { BlockEntry } from '../../../shared/contracts/blocks.ts'

/** The same samples make the same name (LOG-13), and what was merged names what it was made of. What cannot be read proves nothing. */
export async function isInBlocks(
  blocks: Pick<Blocks, 'manifest' | 'openBlock'>,
  tenant: string,
  { ulid, minTime, maxTime }: BlockEntry,
): Promise<boolean> {
  const manifest = blocks.manifest(tenant)?.manifest
  if (manifest === undefined) return false
  const wasListed = manifest.retired.some((each) => each.ulid === ulid && each.reason !== 'garbage')
  if (wasListed || manifest.blocks.some((entry) => entry.ulid === ulid)) return true
  const merged = manifest.blocks.filter((entry) => {
    const isRaw = entry.origin.kind === 'compaction' && entry.resolutionMs === 0
    return isRaw && entry.minTime < maxTime && entry.maxTime > minTime
  })
  for (const entry of merged) if (await isMadeOf(blocks, tenant, entry, ulid)) return true
  return false
}

async function isMadeOf(
  blocks: Pick<Blocks, 'openBlock'>,
  tenant: string,
  entry: BlockEntry,
  ulid: string,
): Promise<boolean> {
  try {
    return (await blocks.openBlock(tenant, entry).meta()).compaction.sources?.includes(ulid) === true
  } catch (error) {
    if (error instanceof CorruptError) return false // told by whoever reads the block
    throw error
  }
}
