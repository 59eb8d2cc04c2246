// What was set aside is tried again, beside everything else: in a lane of its own, a few at a time, so that no flush waits for it.
//
// Invariants
//   ASIDE-4  One is tried at a time, and after RETRIES_MAX it is looked anew who leads. A tenant of which one failed rests, in all partitions: the more of it
//       is aside, the longer it takes, and nobody else notices. What was tried longest ago comes first, so that one that always fails keeps back
//       no other for good.
//   ASIDE-5  Only the record that was brought in is ended: one that others have changed since, or ended and made again, stays.
import type { Clock } from '../../../shared/base/clock.ts'
import { ConflictError, CorruptError } from '../../../shared/base/errors.ts'
import { tenantPlaces } from '../../../shared/blocks/delete-rules.ts'
import type { Blocks } from '../../../shared/blocks/port.ts'
import { type AsideCopy, asidePrefix, asideRecord } from '../../../shared/contracts/blocks.ts'
import type { SelectFrame } from '../../../shared/contracts/read.ts'
import { encodeTenant } from '../../../shared/model/tenant.ts'
import { readWhole } from '../../../shared/objects/read-whole.ts'
import type { Log } from '../../../shared/telemetry/log.ts'
import type { Supplement } from './after-flush.ts'
import { ASIDE_TIMEOUT_MS, type AsidePart, asideParts, joinedParts } from './aside-objects.ts'
import type { AsideRow, Asides, TenantSegment } from './asides.ts'
import type { BlockBuilder } from './block-builder.ts'
import type { Holder } from './flush.ts'
import type { BuiltBlock } from './flush-build.ts'

export interface AsideRetriesDeps {
  readonly log: Log
  readonly blocks: Blocks
  readonly clock: Clock
  readonly builder: BlockBuilder
  readonly asides: Pick<Asides, 'rows'>
  /** Lists blocks of a segment that counts as flushed. Answers those that are refused. */
  readonly add: (holder: Holder, of: TenantSegment, added: Supplement) => Promise<readonly string[]>
}

interface Tried {
  readonly atMs: number
  /** The record that is no more, whatever is heard of it. */
  readonly endedRevision: number
}

const RETRIES_MAX = 16
const REST_MS = 10 * 60_000

export class AsideRetries {
  readonly #deps: AsideRetriesDeps
  /** By the record's key. Bound: the records there are. */
  readonly #tried = new Map<string, Tried>()
  /** Tenants that rest, by the monotonic clock. Bound: tenants with records. */
  readonly #restsUntil = new Map<string, number>()

  constructor(deps: AsideRetriesDeps) {
    this.#deps = deps
  }

  /** A few of what is due in the partitions of these, which lead them. */
  async retry(led: readonly Holder[]): Promise<void> {
    this.#forget()
    const holders = new Map(led.map((holder) => [holder.partition, holder]))
    for (let tries = 0; tries < RETRIES_MAX; tries++) {
      const row = this.#next(holders)
      if (row === undefined) return
      await this.#try(row, holders.get(row.params.partition)!)
    }
  }

  /** ASIDE-4 */
  #next(holders: ReadonlyMap<number, Holder>): AsideRow | undefined {
    const nowMs = this.#deps.clock.monotonic()
    const triedAt = ({ key }: AsideRow) => this.#tried.get(key)?.atMs ?? Number.NEGATIVE_INFINITY
    let next: AsideRow | undefined
    for (const row of this.#deps.asides.rows()) {
      const holder = holders.get(row.params.partition)
      if (row.kind !== 'value' || holder === undefined || holder.state.use.isOver) continue // whoever leads now tries
      if (this.#tried.get(row.key)?.endedRevision === row.revision) continue
      if (nowMs < (this.#restsUntil.get(row.params.tenant) ?? 0)) continue
      if (next === undefined || triedAt(row) < triedAt(next)) next = row
    }
    return next
  }

  async #try(row: AsideRow, holder: Holder): Promise<void> {
    const { clock, log } = this.#deps
    const { tenant, partition, segment } = row.params
    let endedRevision = 0
    try {
      const isGone = await this.#bringIn(row, holder)
      endedRevision = row.revision
      if (isGone) log.info({ partition, tenant, segment }, 'what was set aside is in blocks now, or deleted')
    } catch (error) {
      this.#restsUntil.set(tenant, clock.monotonic() + REST_MS)
      log.error({ partition, tenant, segment, error }, 'what was set aside is still in no block')
    }
    this.#tried.set(row.key, { atMs: clock.monotonic(), endedRevision })
  }

  async #bringIn(row: AsideRow, holder: Holder): Promise<boolean> {
    const { blocks, builder, add } = this.#deps
    const { tenant, partition, segment } = row.params
    const of = { tenant, segment: Number(segment) }
    const prefix = asidePrefix(encodeTenant(tenant), partition, of.segment)
    const isOver = row.value!.state === 'done' || this.#isDeleted(row)
    for (const copy of isOver ? [] : row.value!.copies) {
      const since = blocks.manifest(tenant)?.manifest.version ?? 0
      const built: BuiltBlock[] = []
      for (const { origin, frames } of joinedParts(await this.#readCopy(prefix, copy)))
        built.push(...(await builder.build({ tenant, origin }, each(frames))))
      for (const { entry, files } of built) await blocks.uploadBlock(tenant, { ulid: entry.ulid, files })
      const refused = await add(holder, of, { built, since })
      if (refused.length > 0) throw new CorruptError('aside-too-late', 'deletions of then are forgotten') // DELETE-11
    }
    return this.#end(row, prefix)
  }

  /** ASIDE-5: the record says first that all is done, and goes last: objects that no record names would stay for ever. False where it is another one by
   *  now. */
  async #end({ key, revision, value }: AsideRow, prefix: string): Promise<boolean> {
    const { bucket, objects } = this.#deps.blocks
    try {
      const done = asideRecord.format.encode({ ...value!, state: 'done' })
      const doneRevision = value!.state === 'done' ? revision : await bucket.update(key, done, revision)
      for (const name of value!.copies.flatMap((copy) => copy.objects))
        await objects.delete(prefix + name, { timeoutMs: ASIDE_TIMEOUT_MS })
      await bucket.delete(key, doneRevision)
      return true
    } catch (error) {
      if (error instanceof ConflictError) return false
      throw error
    }
  }

  async #readCopy(prefix: string, { objects }: AsideCopy): Promise<AsidePart[]> {
    const found: AsidePart[] = []
    for (const name of objects) {
      const bytes = await readWhole(this.#deps.blocks.objects, prefix + name, { timeoutMs: ASIDE_TIMEOUT_MS })
      if (bytes === undefined) throw new CorruptError('object-missing', `${prefix}${name} is named and not there`)
      found.push(...asideParts.decode(bytes))
    }
    return found
  }

  /** All of it was written before a deletion of its tenant that cannot be taken back. */
  #isDeleted({ params: { tenant, partition, segment } }: AsideRow): boolean {
    const stored = this.#deps.blocks.manifest(tenant)
    const gone = stored === undefined ? [] : tenantPlaces(stored.manifest, partition, true)
    return gone.some((place) => place.segment > Number(segment))
  }

  /** What was remembered of records that are gone, whoever has ended them. */
  #forget(): void {
    const rows = [...this.#deps.asides.rows()]
    const keys = new Set(rows.map(({ key }) => key))
    const tenants = new Set(rows.map(({ params }) => params.tenant))
    for (const key of this.#tried.keys()) if (!keys.has(key)) this.#tried.delete(key)
    for (const tenant of this.#restsUntil.keys()) if (!tenants.has(tenant)) this.#restsUntil.delete(tenant)
  }
}

async function* each(frames: readonly SelectFrame[]): AsyncIterable<SelectFrame> {
  yield* frames
}
