// What an upload becomes: names and descriptions of its blocks, and the change of the manifest that lists them. Pure.
import { RefusedError } from '../../../shared/base/errors.ts'
import { isUnderWay, withReplaced } from '../../../shared/blocks/delete-rules.ts'
import { entryOf } from '../../../shared/blocks/entry.ts'
import type { BlockEntry, Manifest } from '../../../shared/contracts/blocks.ts'
import type { UploadRecord } from '../../../shared/contracts/uploads.ts'
import { blockMeta, blockUlid, metaBytes } from '../../../shared/tsdb/block/meta.ts'
import { sha256Of } from '../../../shared/wire/sha256.ts'
import type { ImportReport } from '../worker/import-job.ts'

/** The manifest with the blocks of an upload, and the names under which they are listed; without a manifest when they are already (VALIDATE-3). */
export function withUploaded(
  manifest: Manifest,
  { record, entries, nowMs }: { record: UploadRecord; entries: readonly BlockEntry[]; nowMs: number },
): { manifest: Manifest | undefined; ulids: readonly string[] } {
  const known = manifest.blocks.filter(({ origin }) => origin.kind === 'upload' && origin.nonce === record.nonce)
  const ulids = (known.length > 0 ? known : entries).map(({ ulid }) => ulid)
  if (known.length > 0) return { manifest: undefined, ulids }
  const isReplaced = ({ ulid, origin }: BlockEntry) =>
    record.replaces && (ulid === record.ulid || (origin.kind === 'upload' && origin.source === record.ulid))
  const sources = manifest.blocks.filter(isReplaced).map(({ ulid }) => ulid)
  if (entries.length + sources.length === 0) return { manifest: undefined, ulids }
  const next: Manifest = {
    ...manifest,
    blocks: [...manifest.blocks.filter((block) => !isReplaced(block)), ...entries],
    retired: [
      ...manifest.retired,
      ...sources.map((ulid) => ({ ulid, retiredAtMs: nowMs, reason: 'replaced' as const })),
    ],
    deletes: withReplaced(manifest.deletes, { sources, results: ulids }), // what hid the old ones hides the new ones
  }
  return { manifest: next, ulids }
}

/** Nothing is added to a tenant while it is being deleted. */
export function assertMayCome(manifest: Manifest | undefined): void {
  const deletion = manifest?.deletes.find((entry) => entry.kind === 'tenant' && isUnderWay(entry))
  if (deletion === undefined) return
  const text = `tenant "${manifest!.tenant}" is being deleted (${deletion.id}): upload when that is done or taken back`
  throw new RefusedError('err-carillon-upload-tenant-deleted', text, { status: 409 })
}

/** The name of an output must be known before its content is: it is made of what decides the content, and of the claim (VALIDATE-1). */
export function nameOf({ tenant, ulid, nonce, attempt }: UploadRecord, startMs: number): string {
  const told = JSON.stringify([ulid, nonce, attempt, startMs])
  const sha256 = sha256Of(told)
  const files = [{ name: 'source', size: 0, sha256 }]
  return blockUlid({ tenant, minTime: startMs, origin: { kind: 'upload' }, files })
}

export function describe(
  record: UploadRecord,
  { meta: given }: ImportReport,
  { startMs, stats }: ImportReport['outputs'][number],
): { entry: BlockEntry; bytes: Uint8Array<ArrayBuffer> } {
  const { tenant, ulid: source, nonce } = record
  const ulid = nameOf(record, startMs)
  const parent = { ulid: given.ulid, minTime: given.minTime, maxTime: given.maxTime }
  const level = Math.max(1, given.compaction.level)
  const origin = { kind: 'upload', source }
  const described = blockMeta({ tenant, stats, origin, level, sources: [source], parents: [parent] })
  const bytes = metaBytes({ ...described, ulid })
  return { entry: entryOf({ ulid, origin: { kind: 'upload', source, nonce }, stats, metaBytes: bytes }), bytes }
}
