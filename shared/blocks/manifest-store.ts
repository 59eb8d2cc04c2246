// Changes of manifests (MANIFEST-2): read, change, write by compare-and-set, copy to the object store, note in the registry.
//
// Order of one change: the object copy of the version read (again, if its writer died before it) → the bucket, which decides who wins →
// the object copy of the new version → the registry. A crash between any two leaves what the next change completes, and nothing that was
// answered to a caller can be lost with the bucket alone.
import { backoffMs } from '../base/backoff.ts'
import { type Clock, sleep } from '../base/clock.ts'
import { CarillonError, ConflictError, CorruptError, UnavailableError } from '../base/errors.ts'
import type { Random } from '../base/random.ts'
import type { KvBucket, LogStore } from '../bus/port.ts'
import { MANIFEST_BYTES_MAX, type Manifest, manifestKey, manifestObject, tenantKey } from '../contracts/blocks.ts'
import { encodeTenant } from '../model/tenant.ts'
import type { ObjectStore } from '../objects/port.ts'
import { readWhole } from '../objects/read-whole.ts'
import type { Log } from '../telemetry/log.ts'
import { sha256Of } from '../wire/sha256.ts'
import {
  decodeManifest,
  decodeRegistered,
  emptyManifest,
  encodeManifest,
  encodeRegistered,
  type Registered,
} from './codec.ts'
import { settled } from './first-format.ts'
import { isOutlived, manifestCopies, VERSIONS_KEPT } from './manifest-copies.ts'
import type { StoredManifest, UpdateOptions } from './port.ts'
import type { BlocksView } from './view.ts'

export interface ManifestStoreDeps {
  readonly bucket: KvBucket
  readonly logs: Pick<LogStore, 'state' | 'lastPerSubject'>
  readonly objects: ObjectStore
  readonly view: BlocksView
  readonly clock: Clock
  readonly random: Random
  readonly log: Log
  readonly payloadBytesMax: number
}

const ATTEMPTS_MAX = 60
const BACKOFF = { firstMs: 10, maxMs: 2_000 }
const OBJECT_TIMEOUT_MS = 20_000

/** A version read from the bucket, with its bytes. Version 0 and revision 0: there is none yet. */
interface Base {
  readonly manifest: Manifest
  readonly revision: number
  readonly sha256: string
  readonly bytes: Uint8Array | undefined
}

type Change = (manifest: Manifest) => Manifest | undefined

export class ManifestStore {
  private readonly deps: ManifestStoreDeps
  private readonly bytesMax: number
  /** Per tenant the newest version whose object copy is known to exist. */
  private readonly copied = new Map<string, number>()

  constructor(deps: ManifestStoreDeps) {
    this.deps = deps
    this.bytesMax = Math.min(MANIFEST_BYTES_MAX, deps.payloadBytesMax)
  }

  async update(
    tenant: string,
    change: Change,
    { fence, signal, attemptsMax = ATTEMPTS_MAX }: UpdateOptions = {},
  ): Promise<StoredManifest> {
    const { clock, random } = this.deps
    let written: Base | undefined
    for (let attempt = 0; attempt < attemptsMax; attempt++) {
      if (attempt > 0) await sleep(clock, backoffMs(attempt - 1, BACKOFF, random), signal)
      const known = attempt === 0 ? this.known(tenant) : undefined
      let base = known ?? (await this.newest(tenant))
      if (written && (await this.isOurs(tenant, base, written))) return await this.settled(tenant, base)
      let next = known && (await this.nextIfAny(known, change, fence))
      if (next === undefined && known !== undefined) base = await this.newest(tenant) // MANIFEST-6
      next ??= await this.next(base, change, fence)
      if (next === undefined) return await this.settled(tenant, base)
      await this.copy(tenant, base)
      try {
        const revision = await this.write(tenant, base, next)
        return await this.settled(tenant, { ...next, revision })
      } catch (error) {
        if (error instanceof UnavailableError)
          written = next // its fate is unknown: the next read tells
        else if (!(error instanceof ConflictError)) throw error
      }
    }
    const text = `the manifest of tenant "${tenant}" was changed by others during ${attemptsMax} attempts`
    throw new ConflictError('manifest-storm', text)
  }

  /** The newest sound object copy becomes the next version. */
  async repair(tenant: string): Promise<StoredManifest> {
    const { bucket, objects, log } = this.deps
    const token = encodeTenant(tenant)
    const versions = await this.versions(tenant)
    const [entry] = await bucket.newest([manifestKey(token)])
    checkNotNewer(tenant, entry?.value)
    const found = await this.newestSound(tenant, versions)
    if (found === undefined) throw new CorruptError('manifest-missing', `tenant "${tenant}" has no sound object copy`)
    this.deps.view.registered(tenant) // throws for what is damaged
    const version = Math.max(this.deps.view.written(tenant), ...versions) + 1
    const manifest: Manifest = {
      ...(found.manifest.isUnsettled ? await this.settledManifest(found.manifest) : found.manifest),
      version,
      previous: found.sha256,
      repairedFrom: found.manifest.version,
      sweptAt: version, // what was swept under the versions that are lost (MANIFEST-5)
    }
    const bytes = encodeManifest(manifest, this.bytesMax)
    await objects.create(manifestObject(token, version), bytes, { timeoutMs: OBJECT_TIMEOUT_MS })
    const revision =
      entry === undefined || entry.value === undefined
        ? await bucket.create(manifestKey(token), bytes)
        : await bucket.update(manifestKey(token), bytes, entry.revision)
    await this.register(tenant, version)
    log.error({ tenant, version, from: found.manifest.version }, 'a manifest was made anew from an object copy')
    return { manifest, revision, sha256: sha256Of(bytes) }
  }

  /** What does not fit among the kept versions, in words. */
  async checkChain(tenant: string): Promise<string[]> {
    const problems: string[] = []
    let before: { version: number; sha: string } | undefined
    const versions = await this.versions(tenant)
    for (const version of versions) {
      if (isOutlived(version, versions.at(-1)!)) continue
      let bytes: Uint8Array | undefined
      let manifest: Manifest
      try {
        bytes = await this.objectBytes(tenant, version)
        if (bytes === undefined) continue // deleted since it was listed
        manifest = decodeManifest(bytes, tenant)
      } catch (error) {
        if (!(error instanceof CorruptError)) throw error
        problems.push(`version ${version}: ${error.message}`)
        before = undefined
        continue
      }
      if (manifest.version !== version) problems.push(`object ${version} holds version ${manifest.version}`)
      const isNext = before !== undefined && manifest.repairedFrom === undefined
      if (isNext && version !== before!.version + 1) {
        problems.push(`versions ${before!.version + 1} to ${version - 1} are missing`)
      } else if (isNext && manifest.previous !== before!.sha) {
        problems.push(`version ${version} does not follow from version ${before!.version}`)
      }
      before = { version, sha: sha256Of(bytes) }
    }
    return problems
  }

  /** What the watch has shown: something to begin with, never to conclude from (MANIFEST-6). */
  private known(tenant: string): Base | undefined {
    const seen = this.deps.view.manifest(tenant) // throws for what is damaged or missing
    if (seen === undefined) return undefined
    const bytes = encodeManifest(seen.manifest, Number.POSITIVE_INFINITY)
    return { ...seen, bytes: sha256Of(bytes) === seen.sha256 ? bytes : undefined }
  }

  /** No older than this call, whatever a server that is behind would say. */
  private async newest(tenant: string): Promise<Base> {
    const { bucket, view } = this.deps
    view.manifest(tenant) // throws for what is damaged or missing
    const before = view.written(tenant)
    const [entry] = await bucket.newest([manifestKey(encodeTenant(tenant))])
    if (entry?.value === undefined) {
      if (before > 0)
        throw new CorruptError('manifest-missing', `tenant "${tenant}" has no manifest, version ${before} was written`)
      await this.checkNew(tenant)
      return { manifest: emptyManifest(tenant), revision: 0, sha256: '', bytes: undefined }
    }
    const manifest = decodeManifest(entry.value, tenant)
    if (manifest.version < before) {
      const text = `the manifest of tenant "${tenant}" is version ${manifest.version}, version ${before} was written`
      throw new CorruptError('manifest-older', text)
    }
    return { manifest, revision: entry.revision, sha256: sha256Of(entry.value), bytes: entry.value }
  }

  /** A tenant without a manifest is new only when nothing says that there was one (MANIFEST-3). */
  private async checkNew(tenant: string): Promise<void> {
    const { objects, bucket } = this.deps
    const token = encodeTenant(tenant)
    const first = await objects.info(manifestObject(token, 1), { timeoutMs: OBJECT_TIMEOUT_MS })
    if (first !== undefined) {
      const [now] = await bucket.newest([manifestKey(token)])
      if (now?.value !== undefined) return // written just now: the compare-and-set tells
      const text = `tenant "${tenant}" has no manifest in the bucket, but an object copy of version 1`
      throw new CorruptError('manifest-missing', text)
    }
    if (this.deps.view.registered(tenant) !== undefined) return
    try {
      await bucket.create(tenantKey(token), encodeRegistered({ tenant, version: 0 }))
    } catch (error) {
      if (!(error instanceof ConflictError)) throw error // another was first, which is as good
    }
  }

  /** What an older version left unsettled is settled by the first change, which may be none else. */
  private async settling(manifest: Manifest, change: Change): Promise<Change> {
    if (!manifest.isUnsettled) return change
    const known = await this.settledManifest(manifest)
    return () => change(known) ?? known
  }

  private settledManifest(manifest: Manifest): Promise<Manifest> {
    const { logs, clock, log, view } = this.deps
    return settled(manifest, { logs, clock, log, flushed: (partition) => view.flushed(partition) })
  }

  /** As `next`; what it refuses is judged again by the newest version (MANIFEST-6). */
  private async nextIfAny(base: Base, change: Change, fence: number | undefined): Promise<Base | undefined> {
    try {
      return await this.next(base, change, fence)
    } catch (error) {
      if (error instanceof CarillonError) return undefined
      throw error
    }
  }

  private async next(base: Base, change: Change, fence: number | undefined): Promise<Base | undefined> {
    const { manifest } = base
    if (fence !== undefined && manifest.fence > fence) {
      const text = `tenant "${manifest.tenant}": the lease with fence ${fence} was followed by ${manifest.fence}`
      throw new ConflictError('manifest-fenced', text)
    }
    const changed = (await this.settling(manifest, change))(manifest)
    if (changed === undefined) return undefined
    const { repairedFrom: _, ...kept } = changed
    const next: Manifest = {
      ...kept,
      tenant: manifest.tenant,
      version: manifest.version + 1,
      previous: base.sha256,
      fence: Math.max(manifest.fence, fence ?? 0),
    }
    const bytes = encodeManifest(next, this.bytesMax)
    return { manifest: next, revision: 0, sha256: sha256Of(bytes), bytes }
  }

  private write(tenant: string, base: Base, next: Base): Promise<number> {
    const key = manifestKey(encodeTenant(tenant))
    const { bucket } = this.deps
    return base.revision === 0 ? bucket.create(key, next.bytes!) : bucket.update(key, next.bytes!, base.revision)
  }

  /** After a write of unknown fate: whether the version read is ours, or was made from ours. */
  private async isOurs(tenant: string, base: Base, written: Base): Promise<boolean> {
    if (base.manifest.version < written.manifest.version) return false
    if (base.sha256 === written.sha256 || base.manifest.previous === written.sha256) return true
    if (base.manifest.version === written.manifest.version) return false
    const bytes = await this.objectBytes(tenant, written.manifest.version) // whoever wrote the next one made sure of it
    return bytes !== undefined && sha256Of(bytes) === written.sha256
  }

  /** Before anybody may count on a version: its object copy and the registry. */
  private async settled(tenant: string, stored: Base): Promise<StoredManifest> {
    const { manifest, revision } = stored
    if (manifest.version > 0) {
      await this.copy(tenant, stored)
      await this.register(tenant, manifest.version)
    }
    return { manifest, revision, sha256: stored.sha256 }
  }

  private async copy(tenant: string, { manifest, bytes, sha256: wanted }: Base): Promise<void> {
    const { objects, log } = this.deps
    const { version } = manifest
    if (version === 0 || (this.copied.get(tenant) ?? 0) >= version) return
    const token = encodeTenant(tenant)
    const whole = bytes ?? (await this.deps.bucket.newest([manifestKey(token)]))[0]?.value
    if (whole === undefined || sha256Of(whole) !== wanted) return // another version stands there by now, whose writer made this copy
    try {
      await objects.create(manifestObject(token, version), whole, { timeoutMs: OBJECT_TIMEOUT_MS })
    } catch (error) {
      if (!(error instanceof ConflictError)) throw error
      const text = `tenant "${tenant}": the object copy of version ${version} is another than the bucket's`
      throw new CorruptError('manifest-chain', text, { cause: error })
    }
    this.copied.set(tenant, version)
    if (version <= VERSIONS_KEPT) return
    try {
      await objects.delete(manifestObject(token, version - VERSIONS_KEPT), { timeoutMs: OBJECT_TIMEOUT_MS })
    } catch (error) {
      log.warn({ tenant, version: version - VERSIONS_KEPT, error }, 'an old copy of a manifest stays')
    }
  }

  /** The registry never goes back. */
  private async register(tenant: string, version: number): Promise<void> {
    const { bucket, clock, random } = this.deps
    const key = tenantKey(encodeTenant(tenant))
    let known: (Registered & { revision: number }) | undefined = this.deps.view.registered(tenant)
    for (let attempt = 0; attempt < ATTEMPTS_MAX; attempt++) {
      if (known !== undefined && known.version >= version) return
      const value = encodeRegistered({ tenant, version })
      try {
        await (known === undefined ? bucket.create(key, value) : bucket.update(key, value, known.revision))
        return
      } catch (error) {
        if (!(error instanceof ConflictError)) throw error
      }
      await sleep(clock, backoffMs(attempt, BACKOFF, random))
      const [entry] = await bucket.newest([key])
      known = entry?.value && { ...decodeRegistered(entry.value, key), revision: entry.revision }
    }
    throw new ConflictError('manifest-storm', `${key} was changed by others during ${ATTEMPTS_MAX} attempts`)
  }

  /** Versions that have an object copy, rising. */
  private async versions(tenant: string): Promise<number[]> {
    const copies = await manifestCopies(this.deps.objects, tenant, { timeoutMs: OBJECT_TIMEOUT_MS })
    return copies.map(({ version }) => version)
  }

  private async newestSound(tenant: string, versions: readonly number[]): Promise<StoredManifest | undefined> {
    for (const version of [...versions].reverse()) {
      try {
        const bytes = await this.objectBytes(tenant, version)
        if (bytes === undefined) continue
        return { manifest: decodeManifest(bytes, tenant), revision: 0, sha256: sha256Of(bytes) }
      } catch (error) {
        if (!(error instanceof CorruptError) || error.code === 'newer-version') throw error
        this.deps.log.error({ tenant, version, error }, 'an object copy of a manifest is damaged')
      }
    }
    return undefined
  }

  private objectBytes(tenant: string, version: number): Promise<Uint8Array | undefined> {
    const name = manifestObject(encodeTenant(tenant), version)
    return readWhole(this.deps.objects, name, { timeoutMs: OBJECT_TIMEOUT_MS })
  }
}

/** What a newer version of Carillon wrote is no damage: an old copy in its place would lose what that one did. */
function checkNotNewer(tenant: string, bytes: Uint8Array | undefined): void {
  if (bytes === undefined) return
  try {
    decodeManifest(bytes, tenant)
  } catch (error) {
    if (!(error instanceof CorruptError) || error.code === 'newer-version') throw error
  }
}
