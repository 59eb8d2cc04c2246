// What a compactor answers to whoever asks how far it is.
import { textOf } from '../../shared/base/errors.ts'
import type { Blocks } from '../../shared/blocks/port.ts'
import type { CompactionRequest, CompactionStatusReply, CompactionTenant } from '../../shared/contracts/compaction.ts'
import type { Leases } from '../../shared/kv/leases.ts'
import type { Planner } from './plan/planner.ts'
import type { Aside } from './retire/quarantine.ts'
import type { History } from './retire/step-history.ts'
import type { Scrubber } from './scrub/scrubber.ts'
import type { TenantStates } from './tenant-state.ts'

export interface StatusDeps {
  readonly id: string
  readonly blocks: Blocks
  readonly leases: Pick<Leases, 'holderOf'>
  readonly planner: Pick<Planner, 'waitingOf'>
  readonly states: TenantStates
  readonly history: History
  readonly aside: Pick<Aside, 'list'>
  readonly scrubber: Pick<Scrubber, 'damaged'>
}

/** Of one tenant, or of all. */
export function statusOf({ tenant }: CompactionRequest, deps: StatusDeps): CompactionStatusReply {
  const { id, blocks, history, aside, scrubber } = deps
  const tenants = blocks.tenants().filter((each) => tenant === undefined || each === tenant)
  return {
    id,
    tenants: tenants.map((each) => tenantStatus(each, deps)),
    current: history.current(tenant),
    history: history.list(tenant),
    aside: onceEach([...aside.list(tenant), ...scrubber.damaged(tenant)]),
  }
}

function tenantStatus(tenant: string, { blocks, leases, planner, states }: StatusDeps): CompactionTenant {
  const { error } = states.of(tenant)
  const holder = leases.holderOf(tenant)
  const none = { blocks: 0, bytes: 0, retired: 0, pendingDeletes: 0 }
  const steps = planner.waitingOf(tenant)
  const waitingBytes = steps
    .flatMap((step) => (step.kind === 'settle' ? [] : step.sources))
    .reduce((sum, { bytes }) => sum + bytes, 0)
  const rest = { waitingSteps: steps.length, waitingBytes, holder: holder?.holder ?? '', fence: holder?.fence ?? 0 }
  try {
    const manifest = blocks.manifest(tenant)?.manifest
    if (manifest === undefined) return { tenant, ...none, ...rest }
    return {
      tenant,
      blocks: manifest.blocks.length,
      bytes: manifest.blocks.reduce((sum, { bytes }) => sum + bytes, 0),
      retired: manifest.retired.length,
      pendingDeletes: manifest.deletes.filter((entry) => entry.blocks.length > 0).length,
      ...rest,
      ...(error === undefined ? {} : { error }),
    }
  } catch (damage) {
    return { tenant, ...none, ...rest, error: textOf(damage) }
  }
}

/** A damaged block stands there once, whoever met it, and however often. */
function onceEach(blocks: CompactionStatusReply['aside']): CompactionStatusReply['aside'] {
  return [...new Map(blocks.map((block) => [`${block.tenant} ${block.ulid}`, block])).values()]
}
