// What the watch over the bucket `blocks` has shown: the newest of every key, a consistent prefix of the bucket's changes (MANIFEST-1). Changed
// only by the watch, between awaits of everybody else.
//
// A bucket keeps the newest of each key only. So a watch that is behind may show `flushed.3` and never the manifest version before it, because
// a newer one, which is still to come, has taken its place. Changes are therefore put aside until the watch has settled, and taken over together.
//
// What the watch shows is what stands, also at a lower revision: the bucket lost its newest writes. A manifest that went back is damage, until a
// newer one than any that was shown follows. A watermark that went back was true and stays so: it is kept here, and written again.
//
// What cannot be read here is damage: it is told to whoever wants that tenant or partition, and to nobody else. A key of none is passed over.
import { type Clock, sleep, type Timer } from '../base/clock.ts'
import { CarillonError, CorruptError, textOf, UnavailableError } from '../base/errors.ts'
import { Listeners, type Subscription } from '../base/listeners.ts'
import type { BusSubscription, KvBucket, KvEntry } from '../bus/port.ts'
import { paramsOf, type RecordKey } from '../bus/record.ts'
import { type Flushed, fencePlace, flushedPlace, manifestPlace, registryPlace } from '../contracts/blocks.ts'
import { type PassedOver, passedOver, type Told } from '../kv/passed-over.ts'
import type { Log } from '../telemetry/log.ts'
import { sha256Of } from '../wire/sha256.ts'
import { decodeFlushed, decodeManifest, decodeRegistered, type Registered } from './codec.ts'
import type { BlocksChange, StoredManifest } from './port.ts'
import { restoreFlushed } from './watermarks.ts'

type Seen<T> = { readonly revision: number } & ({ readonly value: T | undefined } | { readonly error: CorruptError })

/** Every watch over the bucket hears of a write: one actor makes so many at most. */
const FENCE_GAP_MS = 5
const WRITE_AGAIN_MS = 1_000
const NO_BYTES = new Uint8Array(0)

export class BlocksView {
  /** By tenant id. Bound: one each per tenant that ever had blocks. */
  private readonly manifests = new Map<string, Seen<StoredManifest>>()
  private readonly registry = new Map<string, Seen<Registered>>()
  /** By tenant id the highest version that was shown, of its manifest or by the registry. */
  private readonly versions = new Map<string, number>()
  private readonly watermarks = new Map<number, Seen<Flushed>>()
  /** By partition the highest that was shown. */
  private readonly reached = new Map<number, Flushed>()
  /** By partition: the next try to write it again. */
  private readonly tries = new Map<number, Timer>()
  /** Shown by the watch, not taken over yet. Bound: one entry per key. */
  private readonly pending = new Map<string, KvEntry>()
  private readonly listeners = new Listeners<BlocksChange>()
  private readonly bucket: KvBucket
  private readonly log: Log
  private readonly clock: Clock
  private watch: BusSubscription | undefined
  /** Of the bucket, up to which all was taken over. */
  private shownRevision = 0
  /** Called when something was shown. Bound: one each per read that waits. */
  private readonly waiting = new Set<() => void>()
  private fencedAtMs = Number.NEGATIVE_INFINITY
  private fenceUnderWay: Promise<number> | undefined
  /** The write that comes behind the one under way: who asks now may wait for it. */
  private nextFence: Promise<number> | undefined

  private readonly unread: PassedOver

  constructor(deps: Told & { readonly bucket: KvBucket; readonly log: Log; readonly clock: Clock }) {
    this.bucket = deps.bucket
    this.log = deps.log
    this.clock = deps.clock
    this.unread = passedOver(deps)
  }

  /** Resolves when what is present has been shown. */
  start(): Promise<void> {
    return new Promise((resolve) => {
      this.watch = this.bucket.watch(
        '>',
        (entry) => void this.pending.set(entry.key, entry),
        () => {
          this.takeOver()
          resolve()
        },
        () => this.takeOver(),
      )
    })
  }

  stop(): void {
    this.watch?.stop()
    this.watch = undefined
    for (const timer of this.tries.values()) timer.cancel()
  }

  tenants(): string[] {
    return [...new Set([...this.registry.keys(), ...this.manifests.keys()])].sort()
  }

  manifest(tenant: string): StoredManifest | undefined {
    const seen = this.manifests.get(tenant)
    if (seen && 'error' in seen) throw seen.error
    this.registered(tenant) // throws for what is damaged
    const written = this.written(tenant)
    const stored = seen?.value
    if (stored === undefined) {
      if (written === 0) return undefined
      throw new CorruptError('manifest-missing', `tenant "${tenant}" has no manifest, version ${written} was written`)
    }
    if (stored.manifest.version >= written) return stored
    const text = `the manifest of tenant "${tenant}" is version ${stored.manifest.version}, version ${written} was written`
    throw new CorruptError('manifest-older', text)
  }

  /** The highest version of a tenant's manifest that is known to have been written. */
  written(tenant: string): number {
    return this.versions.get(tenant) ?? 0
  }

  registered(tenant: string): (Registered & { readonly revision: number }) | undefined {
    const seen = this.registry.get(tenant)
    if (seen === undefined) return undefined
    if ('error' in seen) throw seen.error
    return seen.value && { ...seen.value, revision: seen.revision }
  }

  flushed(partition: number): Flushed | undefined {
    const seen = this.watermarks.get(partition)
    if (seen && 'error' in seen) throw seen.error
    return seen?.value
  }

  onChange(listener: (change: BlocksChange) => void): Subscription {
    return this.listeners.add(listener)
  }

  /** Resolves when the watch has shown all that the bucket held when this was called: by a write of its own, since whatever is read may come
   *  from a server that is behind (DELETE-16). Those who wait at the same time share it. */
  async refresh(timeoutMs: number): Promise<void> {
    const untilMs = this.clock.monotonic() + timeoutMs
    const revision = await this.fence(timeoutMs)
    const text = `the watch over blocks has not shown revision ${revision} yet`
    await this.until(() => this.shownRevision >= revision, { untilMs, text })
  }

  /** Resolves when a tenant's manifest of this version or a newer one was shown. */
  async reach(tenant: string, version: number, timeoutMs: number): Promise<void> {
    const isShown = () => {
      const seen = this.manifests.get(tenant)
      return seen !== undefined && 'value' in seen && (seen.value?.manifest.version ?? 0) >= version
    }
    const text = `the watch over blocks has not shown version ${version} of the manifest of tenant "${tenant}" yet`
    await this.until(isShown, { untilMs: this.clock.monotonic() + timeoutMs, text })
  }

  private until(
    isShown: () => boolean,
    { untilMs, text }: { readonly untilMs: number; readonly text: string },
  ): Promise<void> {
    if (isShown()) return Promise.resolve()
    return new Promise((resolve, reject) => {
      const look = () => {
        if (!isShown()) return
        this.waiting.delete(look)
        timer.cancel()
        resolve()
      }
      const timer = this.clock.after(Math.max(0, untilMs - this.clock.monotonic()), () => {
        this.waiting.delete(look)
        reject(new UnavailableError('blocks-behind', text))
      })
      this.waiting.add(look)
    })
  }

  /** The revision of a write that was begun after this was called: the next one, since the one under way may stand already. */
  private fence(timeoutMs: number): Promise<number> {
    if (this.nextFence !== undefined) return this.nextFence
    const before = this.fenceUnderWay
    const next = (before ?? Promise.resolve(0))
      .catch(() => 0) // told to those who wait for that one
      .then(() => sleep(this.clock, Math.max(0, this.fencedAtMs + FENCE_GAP_MS - this.clock.monotonic())))
      .then(() => {
        this.nextFence = undefined
        this.fenceUnderWay = next
        this.fencedAtMs = this.clock.monotonic()
        return this.bucket.put(fencePlace.key, NO_BYTES, timeoutMs)
      })
      .finally(() => {
        if (this.fenceUnderWay === next) this.fenceUnderWay = undefined
      })
    this.nextFence = next
    return next
  }

  private takeOver(): void {
    const entries = [...this.pending.values()]
    this.pending.clear()
    const changes = entries.flatMap((entry) => this.show(entry) ?? [])
    for (const { revision } of entries) this.shownRevision = Math.max(this.shownRevision, revision)
    for (const change of changes) this.listeners.tell(change)
    for (const look of [...this.waiting]) look()
  }

  private show(entry: KvEntry): BlocksChange | undefined {
    const { key } = entry
    const flushed = paramsOf(flushedPlace, key)
    if (flushed !== undefined) return this.showFlushed(flushed.partition, entry)
    const ofManifest = paramsOf(manifestPlace, key)
    if (ofManifest !== undefined) {
      this.showManifest(ofManifest.tenant, entry)
      return { kind: 'manifest', ...ofManifest }
    }
    const ofRegistry = paramsOf(registryPlace, key)
    if (ofRegistry !== undefined) {
      const decode = (bytes: Uint8Array) => decodeRegistered(bytes, key)
      const seen = this.read(registryPlace, entry, decode)
      this.registry.set(ofRegistry.tenant, seen)
      if ('value' in seen) this.noteVersion(ofRegistry.tenant, seen.value?.version)
      return { kind: 'tenant', ...ofRegistry }
    }
    const meant = PLACES.find((place) => place.key.split('.')[0] === key.split('.')[0])
    if (meant !== undefined && entry.value !== undefined)
      this.unread.note(meant, entry, { kind: 'unreadable', reason: `its key is not ${meant.key}` })
    return undefined // others read it, or nobody does
  }

  private showManifest(tenant: string, entry: KvEntry): void {
    const before = this.manifests.get(tenant)
    const seen = this.read(manifestPlace, entry, (bytes) => readManifest(entry, bytes, tenant, before))
    this.manifests.set(tenant, seen)
    if ('value' in seen) this.noteVersion(tenant, seen.value?.manifest.version)
  }

  private noteVersion(tenant: string, version = 0): void {
    this.versions.set(tenant, Math.max(version, this.written(tenant)))
  }

  private showFlushed(partition: number, entry: KvEntry): BlocksChange {
    const seen = this.read(flushedPlace, entry, (bytes) => decodeFlushed(bytes, entry.key))
    const reached = this.reached.get(partition)
    this.watermarks.set(partition, seen)
    if ('error' in seen && seen.error.code === 'newer-version') return { kind: 'flushed', partition }
    const segment = 'error' in seen ? undefined : (seen.value?.segment ?? 0)
    if (reached !== undefined && (segment ?? 0) < reached.segment) {
      const what = segment === undefined ? 'cannot be read' : `went back from ${reached.segment} to ${segment}`
      const text = `${entry.key} ${what}: the bucket was changed from outside or lost its end; it is written again`
      this.log.error({ partition }, text)
      this.watermarks.set(partition, { revision: entry.revision, value: reached })
      void this.writeAgain(partition, reached)
    } else if ('value' in seen && seen.value !== undefined) this.reached.set(partition, seen.value)
    return { kind: 'flushed', partition }
  }

  /** Tries until it stands there, or this is stopped. */
  private async writeAgain(partition: number, reached: Flushed): Promise<void> {
    try {
      await restoreFlushed(this.bucket, partition, reached)
    } catch (error) {
      if (!(error instanceof CarillonError)) throw error
      this.log.warn({ partition, reason: textOf(error) }, 'a watermark that went back could not be written again')
      if (error instanceof CorruptError || this.watch === undefined) return // what stands there is shown, and is damage
      this.tries.get(partition)?.cancel()
      const again = () => void this.writeAgain(partition, reached)
      this.tries.set(partition, this.clock.after(WRITE_AGAIN_MS, again))
    }
  }

  private read<T>(place: RecordKey<string>, entry: KvEntry, decode: (bytes: Uint8Array) => T): Seen<T> {
    const { revision, value } = entry
    if (value === undefined) return { revision, value: undefined }
    try {
      return { revision, value: decode(value) }
    } catch (error) {
      if (!(error instanceof CorruptError)) throw error
      const kind = error.code === 'newer-version' ? error.code : 'unreadable'
      this.unread.note(place, entry, { kind, reason: textOf(error) })
      return { revision, error }
    }
  }
}

const PLACES: readonly RecordKey<string>[] = [manifestPlace, registryPlace, flushedPlace]

/** Checks the chain where the version before was seen as well; the watch may pass over some. One that was made anew follows from a copy, which
 *  may be another than what the bucket showed. */
function readManifest(
  { revision }: KvEntry,
  bytes: Uint8Array,
  tenant: string,
  before: Seen<StoredManifest> | undefined,
): StoredManifest {
  const manifest = decodeManifest(bytes, tenant)
  const last = before && 'value' in before ? before.value : undefined
  const isNext = last && manifest.version === last.manifest.version + 1 && manifest.repairedFrom === undefined
  if (isNext && manifest.previous !== last.sha256) {
    const text = `version ${manifest.version} of tenant "${tenant}" does not follow from the version ${last.manifest.version} that was seen`
    throw new CorruptError('manifest-chain', text)
  }
  return { manifest, revision, sha256: sha256Of(bytes) }
}
