// One look at a tenant's manifest, for whoever needs it seldom and keeps no watch.
import { CorruptError } from '../base/errors.ts'
import type { KvBucket } from '../bus/port.ts'
import { type Manifest, manifestKey, tenantKey } from '../contracts/blocks.ts'
import { encodeTenant } from '../model/tenant.ts'
import { decodeManifest, decodeRegistered } from './codec.ts'

/** Undefined for a tenant that never had blocks. Throws CorruptError (MANIFEST-3). */
export async function readManifest(bucket: KvBucket, tenant: string): Promise<Manifest | undefined> {
  const token = encodeTenant(tenant)
  // Of one moment: of two looks at different servers the second may be older, and a manifest seem to be gone.
  const found = await bucket.newest([tenantKey(token), manifestKey(token)])
  const registered = found.find(({ key }) => key === tenantKey(token))
  const entry = found.find(({ key }) => key === manifestKey(token))
  const version = registered?.value === undefined ? 0 : decodeRegistered(registered.value, tenantKey(token)).version
  if (entry?.value === undefined) {
    if (version === 0) return undefined
    throw new CorruptError(
      'manifest-missing',
      `the manifest of tenant "${tenant}" is gone; version ${version} was there`,
    )
  }
  const manifest = decodeManifest(entry.value, tenant)
  if (manifest.version >= version) return manifest
  const text = `the manifest of tenant "${tenant}" is version ${manifest.version}, the registry knows ${version}`
  throw new CorruptError('manifest-older', text)
}
