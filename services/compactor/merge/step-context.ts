// What belongs to one step while it is carried out.
import type { Blocks, StoredManifest } from '../../../shared/blocks/port.ts'
import type { Lease } from '../../../shared/kv/leases.ts'
import type { Running } from '../retire/step-history.ts'

export interface StepContext {
  readonly lease: Lease
  /** What is told about it, filled in as it goes. */
  readonly running: Running
  /** Aborts when the lease is lost or the compactor stops. */
  readonly signal: AbortSignal
}

/** Changes the manifest of the step's tenant. STEP-3: under the fence of the lease. */
export function changeManifest(
  blocks: Blocks,
  { lease: { tenant, fence }, signal }: StepContext,
  change: Parameters<Blocks['update']>[1],
): Promise<StoredManifest> {
  return blocks.update(tenant, change, { fence, signal })
}
