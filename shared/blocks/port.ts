// Blocks: what is stored of every tenant, joined from the KV bucket `blocks` (manifests, watermarks) and the object store (bytes).
//
// Tenants are ids here, never tokens. `openBlocks` (open.ts) makes one per actor.
//
// Invariants
//   MANIFEST-1  What the watch has shown is a consistent prefix of the bucket's changes (LOG-15): whoever reads several of `manifest`, `flushed` and
//       `watermark` without an await between them sees one state, in which no watermark is ahead of the manifests it speaks of.
//   MANIFEST-2  A manifest changes only by compare-and-set on the very version that the change was made from; each version names the hash of the one
//       before; `update` returns when the version is also an object (LOG-14).
//   MANIFEST-3  What is missing, older than the registry says, or does not match its checksum is CorruptError, never an empty manifest (LOG-14).
//   MANIFEST-4  A block counts only after every byte of it was read back (LOG-13); every byte read later is checked against the manifest's hash.
//   MANIFEST-6  That there is nothing to change, or that a change is refused, is concluded only from the newest version, read after the call began: what
//       the watch has shown may be older than what this very process wrote.
// What is listed was not deleted meanwhile (LOG-17): standing.ts, MANIFEST-5.
//
// Errors: CorruptError `manifest-missing` | `manifest-damaged` | `manifest-older` | `manifest-chain`; RefusedError `err-carillon-manifest-too-large`;
//         ConflictError `manifest-storm` (attempts used up), `manifest-fenced` (a newer lease has changed it), `flushed-elsewhere`;
//         CorruptError `block-damaged`; and what bus and object store say.
import type { Subscription } from '../base/listeners.ts'
import type { KvBucket } from '../bus/port.ts'
import type { BlockEntry, Flushed, Manifest } from '../contracts/blocks.ts'
import type { ObjectStore } from '../objects/port.ts'
import type { BlockFiles } from '../tsdb/block/files.ts'
import type { BlockMeta } from '../tsdb/block/meta.ts'

/** A manifest as it stands in the bucket. */
export interface StoredManifest {
  readonly manifest: Manifest
  readonly revision: number
  /** SHA-256 of its bytes, hex: what the next version names as `previous`. */
  readonly sha256: string
}

export interface UpdateOptions {
  /** Of the lease that allows the change: refused when the manifest was changed under a newer one. */
  readonly fence?: number
  readonly signal?: AbortSignal
  /** Tries in all, each after a longer, jittered wait. */
  readonly attemptsMax?: number
}

/** A block made elsewhere, ready to be stored. */
export interface BlockUpload {
  readonly ulid: string
  /** Name within the block and bytes, in the order in which they are written; `meta.json` is the last. */
  readonly files: readonly { readonly name: string; readonly bytes: Uint8Array }[]
}

/** A stored block, opened by its entry: every read has a deadline and is checked. */
export interface StoredBlock extends BlockFiles {
  readonly ulid: string
  /** meta.json, checked against the entry's `metaSha256`, read once. */
  meta(signal?: AbortSignal): Promise<BlockMeta>
}

/** What lies under a block's prefix, whoever lists it. For garbage. */
export interface FoundBlock {
  readonly ulid: string
  /** Without meta.json a block was never finished, or is being deleted. */
  readonly isWhole: boolean
  readonly bytes: number
  /** Of its newest object, by the store's clock. */
  readonly storedAtMs: number
}

export interface Blocks {
  readonly objects: ObjectStore
  /** The bucket `blocks`, e.g. for leases; manifests and watermarks are changed only through this room. */
  readonly bucket: KvBucket

  // --- what the watch has shown (MANIFEST-1): no waiting ---

  /** Tenants that have or had blocks. */
  tenants(): readonly string[]
  /** The newest version seen; undefined for a tenant that never had blocks. Throws CorruptError (MANIFEST-3). */
  manifest(tenant: string): StoredManifest | undefined
  /** The newest segment of which every tenant's blocks are committed; 0: none. */
  flushed(partition: number): number
  flushedRecord(partition: number): Flushed | undefined
  /** Segments of the partition up to this one are read from the tenant's blocks, later ones from owners (LOG-15). */
  watermark(tenant: string, partition: number): number
  /** Called after each change that the watch shows, with what changed, until it is stopped. */
  onChange(listener: (change: BlocksChange) => void): Subscription
  /** Waits until the watch has shown all that the bucket held when it was called (DELETE-16). UnavailableError `blocks-behind` after `timeoutMs`. */
  refresh(timeoutMs: number): Promise<void>
  /** Waits until the watch has shown this version of a tenant's manifest, or a newer one (DELETE-8). UnavailableError `blocks-behind` after
   *  `timeoutMs`. */
  reach(tenant: string, version: number, timeoutMs: number): Promise<void>

  // --- changes: what is read here is the bucket's newest, not what the watch has shown ---

  /** Takes the newest manifest (MANIFEST-6), applies `change`, writes it by compare-and-set; reads again and repeats when it lost. `change` may be called
   *  often, must not wait, gives `blocks`, `flushed`, `retired`, `deletes` of the next version, and undefined when there is nothing to do. A
   *  tenant without one begins with an empty manifest of version 0. Answers what stands now. */
  update(
    tenant: string,
    change: (manifest: Manifest) => Manifest | undefined,
    options?: UpdateOptions,
  ): Promise<StoredManifest>
  /** `flushed.<p>` from k − 1 to k by compare-and-set; digests of older segments are kept by it. Done as well when it stands at k or beyond,
   *  whoever wrote it. ConflictError `flushed-elsewhere` when it is behind k − 1. */
  advanceFlushed(partition: number, next: Flushed): Promise<void>
  /** Writes the newest sound object copy as the next version: after MANIFEST-3 said that the bucket's is not to be trusted. Answers what was done. */
  repair(tenant: string): Promise<StoredManifest>
  /** Walks the kept versions and says what does not fit, in words. */
  checkChain(tenant: string): Promise<readonly string[]>

  // --- bytes ---

  /** Stores and reads back (MANIFEST-4). Harmless when it is there already. Answers the SHA-256 of meta.json and the bytes of all files. */
  uploadBlock(tenant: string, block: BlockUpload, signal?: AbortSignal): Promise<{ metaSha256: string; bytes: number }>
  openBlock(tenant: string, entry: Pick<BlockEntry, 'ulid' | 'metaSha256'>): StoredBlock
  /** meta.json first, so that no half of it is taken for a block. The caller checks that nobody lists it (LOG-17). */
  deleteBlock(tenant: string, ulid: string): Promise<void>
  listBlocks(tenant: string): Promise<readonly FoundBlock[]>

  close(): void
}

export type BlocksChange =
  | { readonly kind: 'manifest'; readonly tenant: string }
  | { readonly kind: 'tenant'; readonly tenant: string }
  | { readonly kind: 'flushed'; readonly partition: number }
