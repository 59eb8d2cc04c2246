// A second place for all blocks and manifests, which shares no fate with the first: filled as blocks come, compared by the scrubber, and
// where damaged blocks are repaired from.
//
// Invariants
//   SECOND-1  A manifest is copied after every block that it lists, as far as they can be read: whoever restores the newest copy finds its blocks.
//   SECOND-2  What the first store does not list any more stays for `keepMs` since that was first seen here, then goes: so deletions arrive, too.
import type { Clock } from '../../../shared/base/clock.ts'
import { CarillonError, CorruptError, RefusedError } from '../../../shared/base/errors.ts'
import { manifestCopies, VERSIONS_KEPT } from '../../../shared/blocks/manifest-copies.ts'
import type { Blocks } from '../../../shared/blocks/port.ts'
import { listBlocks } from '../../../shared/blocks/stored-blocks.ts'
import { type BlockEntry, blockPrefix, type Manifest, manifestObject } from '../../../shared/contracts/blocks.ts'
import { encodeTenant } from '../../../shared/model/tenant.ts'
import { directoryObjects } from '../../../shared/objects/directory-objects.ts'
import type { ObjectStore } from '../../../shared/objects/port.ts'
import { readWhole } from '../../../shared/objects/read-whole.ts'
import type { Log } from '../../../shared/telemetry/log.ts'
import { META_FILE } from '../../../shared/tsdb/block/files.ts'
import { sha256Of } from '../../../shared/wire/sha256.ts'
import { filesIn, type Pace } from './scrub-files.ts'

const TIMEOUT_MS = 60_000
const DIRECTORY = 'directory:'
/** An empty object in a block's place: since when nobody lists the block. */
const UNLISTED = 'unlisted'
const call = { timeoutMs: TIMEOUT_MS }

/** Undefined for ''. Rejects with RefusedError for what names no store. */
export async function openSecondStore(setting: string, clock: Clock): Promise<ObjectStore | undefined> {
  return setting === '' ? undefined : directoryObjects(folderOfSecondStore(setting), { clock })
}

/** Throws RefusedError `err-carillon-second-store` for what names no store. */
export function folderOfSecondStore(setting: string): string {
  const folder = setting.startsWith(DIRECTORY) ? setting.slice(DIRECTORY.length) : ''
  if (folder !== '') return folder
  throw new RefusedError('err-carillon-second-store', `--second-store is "${setting}", wants ${DIRECTORY}PATH`)
}

export interface BackupDeps {
  readonly blocks: Blocks
  readonly second: ObjectStore
  readonly clock: Clock
  readonly log: Log
  readonly pace: Pace
  readonly keepMs: number
  readonly copied: (bytes: number) => void
}

export class Backup {
  private readonly deps: BackupDeps
  /** Blocks known to stand in the second store. Bound: one per listed block. */
  private readonly standing = new Map<string, Set<string>>()
  /** The version of each tenant's manifest that was copied. */
  private readonly versions = new Map<string, number>()

  constructor(deps: BackupDeps) {
    this.deps = deps
  }

  /** Listed blocks that are not known to be there. */
  notCopied(tenant: string, { blocks }: Manifest): number {
    const standing = this.standing.get(tenant)
    return blocks.filter(({ ulid }) => !standing?.has(ulid)).length
  }

  /** Copies what is new of a tenant. Rejects when a store does not answer. */
  async fill(tenant: string, signal: AbortSignal): Promise<void> {
    const { blocks, log } = this.deps
    const { manifest } = blocks.manifest(tenant) ?? {}
    if (manifest === undefined || this.versions.get(tenant) === manifest.version) return
    const before = this.standing.get(tenant)
    const standing = new Set<string>()
    this.standing.set(tenant, standing)
    let isComplete = true
    for (const entry of manifest.blocks) {
      try {
        if (!before?.has(entry.ulid)) await this.copyBlock(tenant, entry, signal)
        standing.add(entry.ulid)
      } catch (error) {
        if (!(error instanceof CorruptError)) throw error
        isComplete = false // damaged, or replaced since: the next manifest tells
        log.warn({ tenant, ulid: entry.ulid, reason: error.message }, 'a block was not copied into the second store')
      }
    }
    await this.copyManifest(tenant, manifest.version) // SECOND-1
    if (isComplete) this.versions.set(tenant, manifest.version)
  }

  /** Takes away what has long not been listed (SECOND-2). */
  async sweep(tenant: string, manifest: Manifest): Promise<void> {
    const { second, clock, keepMs, log } = this.deps
    const token = encodeTenant(tenant)
    const known = new Set([...manifest.blocks, ...manifest.retired].map(({ ulid }) => ulid))
    for (const { ulid } of await listBlocks(second, tenant)) {
      if (known.has(ulid)) continue
      const prefix = blockPrefix(token, ulid)
      const { storedAtMs } = await second.create(prefix + UNLISTED, new Uint8Array(0), call)
      if (clock.now() - storedAtMs < keepMs) continue
      const names = (await second.list(prefix, call)).map(({ name }) => name)
      for (const name of names.filter((each) => each !== prefix + UNLISTED)) await second.delete(name, call)
      await second.delete(prefix + UNLISTED, call)
      log.info({ tenant, ulid }, 'a block that nobody lists any more left the second store')
    }
  }

  private async copyBlock(tenant: string, entry: BlockEntry, signal: AbortSignal): Promise<void> {
    const { blocks, second, pace } = this.deps
    const { ulid } = entry
    const prefix = blockPrefix(encodeTenant(tenant), ulid)
    const own = filesIn({ store: blocks.objects, pace, signal, count: () => {} }, tenant, ulid)
    const meta = await blocks.openBlock(tenant, entry).meta(signal) // checked against the manifest
    for (const { name, sha256 } of [...(meta.carillon?.files ?? []), { name: META_FILE, sha256: entry.metaSha256 }]) {
      signal.throwIfAborted()
      if (await this.holds(prefix + name, sha256)) continue
      const bytes = await own.read(name, 0, await own.size(name))
      if (sha256Of(bytes) !== sha256)
        throw new CorruptError('block-damaged', `${prefix}${name} is not what ${META_FILE} lists`)
      await second.create(prefix + name, bytes, { ...call, readBack: true })
      this.deps.copied(bytes.length)
    }
  }

  /** What is damaged there is the scrubber's to replace. */
  private async holds(name: string, sha256: string): Promise<boolean> {
    try {
      return (await this.deps.second.info(name, call))?.sha256 === sha256
    } catch (error) {
      if (error instanceof CarillonError && error.kind === 'corrupt') return true
      throw error
    }
  }

  private async copyManifest(tenant: string, version: number): Promise<void> {
    const { blocks, second } = this.deps
    const name = manifestObject(encodeTenant(tenant), version)
    const bytes = await readWhole(blocks.objects, name, call)
    if (bytes === undefined) return // another version is the newest by now
    await second.create(name, bytes, { ...call, readBack: true })
    const old = (await manifestCopies(second, tenant, call)).slice(0, -VERSIONS_KEPT)
    for (const each of old) await second.delete(each.name, call)
  }
}
