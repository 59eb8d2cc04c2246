// The object copies of a tenant's manifest (contracts/blocks.ts).
import { manifestObject } from '../contracts/blocks.ts'
import { encodeTenant } from '../model/tenant.ts'
import type { ObjectCall, ObjectStore } from '../objects/port.ts'

/** Copies of one tenant, of the newest versions; older ones are deleted as new ones are written, and by scrubs where that broke off. */
export const VERSIONS_KEPT = 64

/** Whether a copy need not be there any more: one that a writer left behind when it was cut off, which nothing follows. */
export function isOutlived(version: number, newest: number): boolean {
  return version <= newest - VERSIONS_KEPT
}

export interface ManifestCopy {
  /** Of the object. */
  readonly name: string
  readonly version: number
}

/** Those that are there, the oldest version first. */
export async function manifestCopies(store: ObjectStore, tenant: string, call: ObjectCall): Promise<ManifestCopy[]> {
  const prefix = manifestObject(encodeTenant(tenant), 0).slice(0, -1)
  const found = await store.list(prefix, call)
  return found
    .map(({ name }) => ({ name, version: Number(name.slice(prefix.length)) }))
    .sort((a, b) => a.version - b.version)
}
