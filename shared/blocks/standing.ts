// Blocks that are about to be listed, and whoever deletes what nobody lists (LOG-17). Clocks do not keep the two apart, the manifest does: what is to
// be deleted stands in `retired` until its files are gone, and the version that takes it out of there says so in `sweptAt`. Whoever lists
// knows a version from before it began to write.
//
// Invariants
//   MANIFEST-5  A block is listed only if it is not among the retired, and if nothing has left these since a version from before its files were
//       written, or were seen to stand. However long the process that wrote them stood still, and whatever any clock says, they are there.
import { UnavailableError } from '../base/errors.ts'
import { type BlockEntry, blockPrefix, type Manifest } from '../contracts/blocks.ts'
import { encodeTenant } from '../model/tenant.ts'
import type { ObjectStore } from '../objects/port.ts'
import { META_FILE } from '../tsdb/block/files.ts'
import { openBlock } from './stored-blocks.ts'

const TIMEOUT_MS = 30_000

/** Files may have been deleted since they were written. `version`: of the manifest that says so; undefined: they are being deleted. */
export class SweptError extends UnavailableError {
  readonly version: number | undefined

  constructor(text: string, version?: number) {
    super('blocks-swept', text)
    this.version = version
  }
}

/** MANIFEST-5. `since`: a version from before the files were written, or seen to stand. Throws SweptError. */
export function assertStanding(manifest: Manifest, ulids: readonly string[], since: number): void {
  const going = manifest.retired.find(({ ulid }) => ulids.includes(ulid))
  if (going !== undefined)
    throw new SweptError(`block ${going.ulid} is being deleted: it can be stored again after that`)
  const { sweptAt = 0, version } = manifest
  if (sweptAt <= since) return
  throw new SweptError(
    `files were deleted since version ${since} of the manifest, maybe some that were just written`,
    version,
  )
}

/** Every file of the blocks stands as meta.json lists it. Throws SweptError for one that does not. */
export async function assertStored(
  objects: ObjectStore,
  tenant: string,
  entries: readonly BlockEntry[],
  signal: AbortSignal,
): Promise<void> {
  const call = { timeoutMs: TIMEOUT_MS, signal }
  for (const entry of entries) {
    const prefix = blockPrefix(encodeTenant(tenant), entry.ulid)
    const isGone = (await objects.info(prefix + META_FILE, call))?.sha256 !== entry.metaSha256
    if (isGone) throw new SweptError(`block ${entry.ulid} was deleted before it was listed`)
    const { carillon } = await openBlock(objects, tenant, entry).meta(signal)
    for (const { name, sha256 } of carillon?.files ?? []) {
      if ((await objects.info(prefix + name, call))?.sha256 === sha256) continue
      throw new SweptError(`${prefix}${name} was deleted before its block was listed`)
    }
  }
}
