// What one push brings for elections, settled before anything of it is stored (WRITE-5).
import type { PushReply } from '../../../shared/contracts/write.ts'
import type { Claim } from '../ha/election.ts'
import type { Elections } from '../ha/elections.ts'
import { type AdmitContext, applyClaims } from './admit.ts'
import type { Staged } from './staged.ts'

/** Elections of one push that are settled at the same time. */
const SETTLING_MAX = 64

/** Settles what is not settled by what is known here, and takes out of `staged` what that leaves out. */
export async function settleClaims(staged: Staged, admission: AdmitContext, elections: Elections): Promise<void> {
  const open = [...staged.claims.values()].filter(({ verdict, newestMs, ceilingMs }) => {
    return verdict !== 'drop' && (verdict !== 'take' || newestMs > ceilingMs)
  })
  try {
    await settleAll(open, elections)
  } catch (error) {
    for (const ref of staged.newRefs) admission.dictionary.counted[ref] = 0 // the series limit is still to be asked
    throw error
  }
  applyClaims(new Set(open), staged, admission)
  for (const claim of staged.claims.values()) if (claim.verdict === 'take') elections.renewSoon(claim)
}

/** Some at a time. When it returns or throws, none is at work any more. */
async function settleAll(claims: readonly Claim[], elections: Elections): Promise<void> {
  let next = 0
  const settleSome = async () => {
    while (next < claims.length) {
      try {
        await elections.settle(claims[next++]!)
      } catch (error) {
        next = claims.length
        throw error
      }
    }
  }
  const workers = Array.from({ length: Math.min(SETTLING_MAX, claims.length) }, settleSome)
  for (const result of await Promise.allSettled(workers)) if (result.status === 'rejected') throw result.reason
}

/** What the elections left out of a push that is through. */
export function droppedOf({ claims }: Staged, elections: Elections): Pick<PushReply, 'dropped'> {
  const dropped = { samples: 0, histograms: 0, exemplars: 0 }
  for (const claim of claims.values()) {
    elections.note(claim)
    dropped.samples += claim.dropped.samples
    dropped.histograms += claim.dropped.histograms
    dropped.exemplars += claim.dropped.exemplars
  }
  return dropped.samples + dropped.histograms + dropped.exemplars > 0 ? { dropped } : {}
}
