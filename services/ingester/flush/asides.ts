// Segments of single tenants that could not be brought into blocks while those of the others could: they are set aside, as objects, so that
// nobody waits for them (decision 30).
//
// Invariants
//   ASIDE-1  The flush of the others goes on only when every sample of the tenant's segment stands in objects that were read back, and a record
//       names them: nothing acknowledged is lost.
//   ASIDE-2  Only what is the tenant's own fault is set aside: its samples make no block, or its manifest takes none; also while a log does not tell
//       where its deletions of an older version stand. A bus or a store that does not answer is everybody's else, and is waited for.
//   ASIDE-3  What is set aside is named: in the log, in a metric, in the status of the partition, in each answer to its tenant. It is tried again
//       (aside-retries.ts), and gone when it is in blocks, or when a deletion of the tenant has taken it.
import type { Clock } from '../../../shared/base/clock.ts'
import { ConflictError, CorruptError, RefusedError, textOf, UnavailableError } from '../../../shared/base/errors.ts'
import { hex, type Random } from '../../../shared/base/random.ts'
import { UNSETTLED } from '../../../shared/blocks/first-format.ts'
import type { Blocks } from '../../../shared/blocks/port.ts'
import {
  ASIDE_COPIES_MAX,
  type Aside,
  type AsideCopy,
  asidePrefix,
  asideRecord,
} from '../../../shared/contracts/blocks.ts'
import type { Told } from '../../../shared/kv/passed-over.ts'
import { updateRecord } from '../../../shared/kv/update.ts'
import { type Row, WatchedTable } from '../../../shared/kv/watched-table.ts'
import { encodeTenant } from '../../../shared/model/tenant.ts'
import type { Log } from '../../../shared/telemetry/log.ts'
import { sha256Of } from '../../../shared/wire/sha256.ts'
import { ASIDE_TIMEOUT_MS, encodedParts } from './aside-objects.ts'
import type { FlushDeps, Holder } from './flush.ts'
import { assertHeld, readSegment } from './flush.ts'

export interface AsidesDeps extends Told {
  readonly log: Log
  readonly blocks: Blocks
  readonly clock: Clock
  readonly random: Random
  readonly id: string
  readonly patienceMs: number
}

/** One tenant's part of a segment. */
export interface TenantSegment {
  readonly tenant: string
  readonly segment: number
}

export type AsideRow = Row<'tenant' | 'partition' | 'segment', Aside>

interface Failing {
  readonly sinceMs: number
  reason: string
  /** In the names of its objects: those of an aside that was ended, which others may still be deleting, are never used again. */
  readonly nonce: string
}

const NONCE_BYTES = 4
const REASON_LENGTH_MAX = 300

export class Asides {
  readonly #deps: AsidesDeps
  readonly #table: WatchedTable<'tenant' | 'partition' | 'segment', Aside>
  /** Since when what cannot be flushed has failed, and why. Bound: the tenants' segments that wait; those of a flushed segment go. */
  readonly #failing = new Map<string, Failing>()

  constructor(deps: AsidesDeps) {
    this.#deps = deps
    const { blocks, clock, log, metrics } = deps
    this.#table = new WatchedTable({ bucket: blocks.bucket, record: asideRecord, clock, log, metrics })
  }

  start(): Promise<void> {
    return this.#table.start()
  }

  stop(): void {
    this.#table.stop()
  }

  get count(): number {
    return [...this.#table.rows()].length
  }

  rows(): Iterable<AsideRow> {
    return this.#table.rows()
  }

  /** Whether what this owner holds of it stands in a record already. */
  holds({ partition, state }: Holder, { tenant, segment }: TenantSegment): boolean {
    const { value } = this.#table.row({ tenant, partition, segment: String(segment) }) ?? {}
    const digest = state.heads.get(tenant)?.digest(segment)
    return value?.copies.some((copy) => copy.digest === digest) ?? false
  }

  /** What waits or is set aside of a partition, in words; of one tenant only, without its name. */
  named(partition: number, tenant?: string): string[] {
    const whose = (of: string) => (tenant === undefined ? `tenant "${of}": ` : '')
    const lines: string[] = []
    for (const { params, value } of this.#rowsOf(partition)) {
      if (value?.state === 'done' || (tenant !== undefined && params.tenant !== tenant)) continue
      const reasons = value?.copies.map(({ reason }) => reason) ?? ['its record cannot be read']
      lines.push(`${whose(params.tenant)}segment ${params.segment} is set aside and in no block yet: ${reasons[0]}`)
    }
    if (tenant !== undefined) return lines // what only waits is read from memory
    for (const [key, { reason }] of this.#failing) {
      const [of, segment, name] = placeOf(key)
      if (of === partition) lines.push(`tenant "${name}": segment ${segment} could not be flushed yet: ${reason}`)
    }
    return lines
  }

  /** It was flushed after all. */
  forget(partition: number, { tenant, segment }: TenantSegment): void {
    this.#failing.delete(keyOf(partition, segment, tenant))
  }

  /** All of the partition up to this segment is in blocks, or aside. */
  forgetUpTo(partition: number, upTo: number): void {
    for (const key of this.#failing.keys()) {
      const [of, segment] = placeOf(key)
      if (of === partition && segment <= upTo) this.#failing.delete(key)
    }
  }

  /** After a failure: true when it has been set aside, so that the others may go on. */
  async take(holder: Holder, of: TenantSegment, error: unknown, deps: FlushDeps): Promise<boolean> {
    const { clock, random, log, patienceMs } = this.#deps
    const { partition } = holder
    const reason = textOf(error).slice(0, REASON_LENGTH_MAX)
    const key = keyOf(partition, of.segment, of.tenant)
    const nowMs = clock.monotonic()
    if (!isOwnFault(error)) {
      log.error({ partition, ...of, error }, 'a tenant could not be flushed')
      return false // ASIDE-2
    }
    if (this.holds(holder, of)) return true
    const failing = this.#failing.get(key) ?? { sinceMs: nowMs, reason, nonce: hex(random.bytes(NONCE_BYTES)) }
    failing.reason = reason
    this.#failing.set(key, failing)
    const isDue = nowMs - failing.sinceMs >= patienceMs
    log.error({ partition, ...of, error }, `a tenant could not be flushed${isDue ? ', it is set aside' : ''}`)
    if (!isDue) return false
    try {
      await this.#setAside(holder, of, failing, deps)
    } catch (cause) {
      log.error({ partition, ...of, error: cause }, 'nor could it be set aside')
      return false
    }
    this.#failing.delete(key)
    deps.metrics.asides.inc()
    return true
  }

  /** ASIDE-1 */
  async #setAside(holder: Holder, of: TenantSegment, { reason, nonce }: Failing, deps: FlushDeps): Promise<void> {
    const { blocks, clock, id } = this.#deps
    const { partition, state } = holder
    const { tenant, segment } = of
    const head = state.heads.get(tenant)
    const read = readSegment(holder, of, deps)
    if (head === undefined || read === undefined) return
    const digest = head.digest(segment)
    const prefix = asidePrefix(encodeTenant(tenant), partition, segment)
    const objects: string[] = []
    let bytes = 0
    for await (const encoded of encodedParts(read)) {
      assertHeld(holder, state) // FLUSH-5
      const name = `${digest}-${id.replaceAll(/[^A-Za-z0-9-]/g, '_')}-${nonce}-${sha256Of(encoded).slice(0, 16)}`
      await blocks.objects.create(prefix + name, encoded, { timeoutMs: ASIDE_TIMEOUT_MS, readBack: true, heals: true })
      objects.push(name)
      bytes += encoded.length
    }
    read.assertSame()
    const sampleCount = head.sampleCountOf(segment)
    const copy: AsideCopy = { digest, sampleCount, bytes, objects, by: id, atMs: Math.floor(clock.now()), reason }
    await this.#update({ tenant, partition, segment: String(segment) }, (before) => {
      assertHeld(holder, state) // FLUSH-5
      if (before?.state === 'done') throw new UnavailableError('aside-ending', 'another copy of it is being taken away')
      const others = before?.copies.filter((each) => each.digest !== digest) ?? []
      if (others.length === ASIDE_COPIES_MAX) throw new CorruptError('too-many-copies', 'too many differing copies')
      return { state: 'waiting', copies: [...others, copy] }
    })
  }

  #update(
    params: AsideRow['params'],
    change: (before: Aside | undefined) => Aside | undefined,
  ): Promise<Aside | undefined> {
    const { blocks, clock, log, metrics } = this.#deps
    const { bucket } = blocks
    return updateRecord({ bucket, clock, log, metrics, record: asideRecord, params, mustBeReadable: true, change })
  }

  #rowsOf(partition: number): AsideRow[] {
    return [...this.#table.rows()].filter(({ params }) => params.partition === partition)
  }
}

/** ASIDE-2 */
function isOwnFault(error: unknown): boolean {
  if (error instanceof UnavailableError) return error.code === 'flush-build-failed' || error.code === UNSETTLED
  if (error instanceof RefusedError) return error.code === 'err-carillon-manifest-too-large'
  if (error instanceof CorruptError) return !error.code.startsWith('object-') && error.code !== 'block-damaged'
  return !(error instanceof ConflictError)
}

const keyOf = (partition: number, segment: number, tenant: string): string => `${partition}/${segment}/${tenant}`

function placeOf(key: string): [partition: number, segment: number, tenant: string] {
  const [partition = '', segment = '', ...tenant] = key.split('/')
  return [Number(partition), Number(segment), tenant.join('/')]
}
