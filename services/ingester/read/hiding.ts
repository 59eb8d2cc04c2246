// What an owner does not show: what deletions of the tenant's manifest take of heads, metadata and exemplars (DELETE-8, DELETE-15). Owners remember nothing
// of deletions themselves.
import { UnavailableError } from '../../../shared/base/errors.ts'
import { hidingIn, tenantPlaces } from '../../../shared/blocks/delete-rules.ts'
import { isLeftOut } from '../../../shared/blocks/left-out.ts'
import type { Blocks } from '../../../shared/blocks/port.ts'
import type { OwnerRequest } from '../../../shared/contracts/read.ts'
import { isBefore, type Place } from '../../../shared/model/place.ts'
import type { Owner } from '../log/owner.ts'

/** Whether what was told at a place is shown. */
export type IsShown = (place: Place) => boolean

/** How long the watch over manifests may be behind the reader's: another owner is asked then. */
const BEHIND_MS = 2_000

const ALL: IsShown = () => true

/** Waits until the manifest is known by which the reader goes. UnavailableError `err-carillon-owner-behind`. */
export async function reachVersion(blocks: Blocks, { tenant, manifestVersion = 0 }: OwnerRequest): Promise<void> {
  if (manifestVersion === 0 || isLeftOut('view-rev')) return
  if ((blocks.manifest(tenant)?.manifest.version ?? 0) >= manifestVersion) return
  try {
    await blocks.reach(tenant, manifestVersion, BEHIND_MS)
  } catch (error) {
    if (!(error instanceof UnavailableError)) throw error
    throw new UnavailableError('err-carillon-owner-behind', error.message, { cause: error })
  }
}

/** Hides what the newest manifest says, in the head of the tenant; answers of the rest what is shown. To be called without an await between
 *  it and what it is for. CorruptError where the manifest cannot be read: nobody knows what is deleted, so nothing is shown to anybody. */
export function hide({ state, partition }: Owner, blocks: Blocks, { tenant }: OwnerRequest): IsShown {
  state.use.assertNotOver() // STATE-6: given away while the question waited
  const manifest = blocks.manifest(tenant)?.manifest
  if (manifest === undefined) return ALL
  if (manifest.isUnsettled) {
    const text = `where deletions of tenant "${tenant}" stand is being found out after an upgrade: a compactor does it`
    throw new UnavailableError('err-carillon-owner-behind', text)
  }
  // A position lies in the segment of the newest mark before it: where that was dropped, so was all that lies before.
  const isHeld = ({ place }: { readonly place: Place }) => place.segment > state.droppedUpTo
  state.heads.get(tenant)?.hide(manifest.version, () => hidingIn(manifest, partition).filter(isHeld))
  const places = tenantPlaces(manifest, partition)
  return places.length === 0 ? ALL : (place) => !places.some((end) => isBefore(place, end))
}
