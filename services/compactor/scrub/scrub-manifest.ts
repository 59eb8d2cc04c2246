// What says which blocks a tenant has: the manifest in the bucket, its registry, and the chain of object copies (docs/formats/manifest.md).
//
// Invariants
//   SCRUB-3  A manifest is made anew by itself only when that loses no version that was ever answered: from a sound copy of the newest version
//       that the registry or a copy names. Else it is told, and stays.
//   SCRUB-4  What a newer version of Carillon wrote is told and left alone.
import { CarillonError, CorruptError, textOf } from '../../../shared/base/errors.ts'
import { decodeManifest, decodeRegistered, encodeRegistered } from '../../../shared/blocks/codec.ts'
import { isOutlived, manifestCopies } from '../../../shared/blocks/manifest-copies.ts'
import type { Blocks } from '../../../shared/blocks/port.ts'
import { manifestKey, manifestObject, tenantKey } from '../../../shared/contracts/blocks.ts'
import type { ScrubFinding } from '../../../shared/contracts/scrubbing.ts'
import { encodeTenant } from '../../../shared/model/tenant.ts'
import type { ObjectStore } from '../../../shared/objects/port.ts'
import { readWhole } from '../../../shared/objects/read-whole.ts'
import { sha256Of } from '../../../shared/wire/sha256.ts'
import { READ_TIMEOUT_MS } from './scrub-files.ts'

export interface ManifestScrub {
  readonly blocks: Blocks
  readonly second: ObjectStore | undefined
}

const REFRESH_MS = 5_000
const call = { timeoutMs: READ_TIMEOUT_MS }

export async function scrubManifest(tenant: string, deps: ManifestScrub): Promise<ScrubFinding[]> {
  const findings: ScrubFinding[] = []
  const copies = await scrubCopies(tenant, deps)
  findings.push(...copies)
  const damage = await damageOf(tenant, deps)
  if (damage === undefined) {
    await removeOutlived(tenant, deps)
    return findings
  }
  try {
    const from = await restore(tenant, deps)
    const state = from === undefined ? 'damaged' : 'repaired'
    findings.push({ ...about('', damage), state, ...(from === undefined ? {} : { from }) })
    await deps.blocks.refresh(REFRESH_MS)
  } catch (error) {
    if (!(error instanceof CarillonError)) throw error
    findings.push({ ...about('', `${damage}; it was not made anew: ${error.message}`), state: 'damaged' })
  }
  return findings
}

function about(file: string, text: string): Omit<ScrubFinding, 'state'> {
  return { what: 'manifest', ulid: '', file, offset: 0, text }
}

async function damageOf(tenant: string, { blocks }: ManifestScrub): Promise<string | undefined> {
  try {
    blocks.manifest(tenant)
    return await lostIn(tenant, blocks)
  } catch (error) {
    if (error instanceof CorruptError) return error.message
    throw error
  }
}

/** What a bucket has lost that was there: nobody who came later has seen it, but its copy was made. */
async function lostIn(tenant: string, { objects, bucket }: Blocks): Promise<string | undefined> {
  const newest = (await manifestCopies(objects, tenant, call)).at(-1)
  const [entry] = await bucket.newest([manifestKey(encodeTenant(tenant))]) // read later, so no older than a copy
  if (newest === undefined || entry?.value === undefined) return undefined
  const { version } = decodeManifest(entry.value, tenant)
  if (version > newest.version) return undefined
  if (version === newest.version) {
    const copy = await readWhole(objects, newest.name, call)
    if (copy === undefined || sha256Of(copy) === sha256Of(entry.value)) return undefined
    return `version ${version} of the manifest is another than its object copy: the bucket lost the one that was there`
  }
  return `the manifest is version ${version}, version ${newest.version} has an object copy: the bucket lost what was written since`
}

/** Every kept copy; a damaged one is taken from the bucket or the second store. */
async function scrubCopies(tenant: string, { blocks, second }: ManifestScrub): Promise<ScrubFinding[]> {
  const { objects, bucket } = blocks
  const token = encodeTenant(tenant)
  const findings: ScrubFinding[] = []
  for (const { name, version } of await manifestCopies(objects, tenant, call)) {
    const damage = await copyDamage(objects, tenant, name, version)
    if (damage === undefined) continue
    const inBucket = (await bucket.get(manifestKey(token)))?.value
    const found =
      (isVersion(inBucket, tenant, version) && { bytes: inBucket!, from: 'the bucket' }) ||
      (second && (await fromStore(second, tenant, name, version)))
    const isNewer = damage.code === 'newer-version' // SCRUB-4
    if (found && !isNewer) {
      await objects.delete(name, call)
      await objects.create(name, found.bytes, { ...call, readBack: true })
      findings.push({ ...about(name, damage.message), state: 'repaired', from: found.from })
    } else findings.push({ ...about(name, damage.message), state: 'damaged' })
  }
  const broken = await blocks.checkChain(tenant)
  const isTold = findings.some(({ state }) => state === 'damaged')
  if (!isTold) findings.push(...broken.map((text) => ({ ...about('', text), state: 'damaged' as const })))
  return findings
}

/** By the version that stands in the bucket: the name of an object that is none of ours may claim any. */
async function removeOutlived(tenant: string, { blocks }: ManifestScrub): Promise<void> {
  const newest = blocks.manifest(tenant)?.manifest.version ?? 0
  for (const { name, version } of await manifestCopies(blocks.objects, tenant, call))
    if (isOutlived(version, newest)) await blocks.objects.delete(name, call)
}

async function copyDamage(
  store: ObjectStore,
  tenant: string,
  name: string,
  version: number,
): Promise<CorruptError | undefined> {
  try {
    const bytes = await readWhole(store, name, call)
    if (bytes === undefined) return undefined // deleted since it was listed
    const manifest = decodeManifest(bytes, tenant)
    if (manifest.version === version) return undefined
    return new CorruptError('manifest-damaged', `${name} holds version ${manifest.version}`)
  } catch (error) {
    if (error instanceof CorruptError) return error.code === 'object-missing' ? undefined : error
    throw error
  }
}

async function fromStore(store: ObjectStore, tenant: string, name: string, version: number) {
  try {
    const bytes = await readWhole(store, name, call)
    return bytes && isVersion(bytes, tenant, version) ? { bytes, from: 'the second store' } : undefined
  } catch (error) {
    if (error instanceof CorruptError) return undefined
    throw error
  }
}

function isVersion(bytes: Uint8Array | undefined, tenant: string, version: number): boolean {
  try {
    return bytes !== undefined && decodeManifest(bytes, tenant).version === version
  } catch (error) {
    if (error instanceof CorruptError) return false
    throw error
  }
}

// ---- the bucket ----

/** SCRUB-3. Where it came from; undefined when nothing that is sound is new enough. */
async function restore(tenant: string, { blocks, second }: ManifestScrub): Promise<string | undefined> {
  const { bucket, objects } = blocks
  const token = encodeTenant(tenant)
  const versions = (await manifestCopies(objects, tenant, call)).map(({ version }) => version)
  const found = await bucket.newest([manifestKey(token), tenantKey(token)]) // an old one would name an old version as the newest (SCRUB-3)
  const standing = soundVersion(found.find(({ key }) => key === manifestKey(token))?.value, tenant)
  const registered = found.find(({ key }) => key === tenantKey(token))
  const wanted = registeredIn(registered?.value, token)
  if (wanted === undefined && registered !== undefined) {
    if (standing === undefined || standing < Math.max(0, ...versions)) return undefined
    await bucket.update(tenantKey(token), encodeRegistered({ tenant, version: standing }), registered.revision)
    return 'the manifest'
  }
  const newest = Math.max(wanted ?? 0, ...versions)
  const name = manifestObject(token, newest)
  if ((await objects.info(name, call)) === undefined) {
    const copy = second && (await fromStore(second, tenant, name, newest))
    if (!copy) return undefined
    await objects.create(name, copy.bytes, { ...call, readBack: true })
  }
  if ((await copyDamage(objects, tenant, name, newest)) !== undefined) return undefined
  await blocks.repair(tenant)
  return 'an object copy'
}

function soundVersion(bytes: Uint8Array | undefined, tenant: string): number | undefined {
  if (bytes === undefined) return undefined
  try {
    return decodeManifest(bytes, tenant).version
  } catch (error) {
    if (error instanceof CorruptError && error.code !== 'newer-version') return undefined
    throw error // SCRUB-4
  }
}

/** Undefined when it is damaged. */
function registeredIn(bytes: Uint8Array | undefined, token: string): number | undefined {
  if (bytes === undefined) return undefined
  try {
    return decodeRegistered(bytes, tenantKey(token)).version
  } catch (error) {
    if (error instanceof CorruptError && error.code !== 'newer-version') return undefined
    throw new CorruptError('newer-version', textOf(error), { cause: error })
  }
}
