// The scrubber re-reads everything that is stored of a tenant, on a schedule and when asked, at a bounded pace: manifests and their copies,
// every file of every listed block, what nobody lists, and a second store where there is one.
//
// Invariants
//   SCRUB-1, SCRUB-2  scrub-block.ts   SCRUB-3, SCRUB-4  scrub-manifest.ts   SECOND-1, SECOND-2  second-store.ts
//   SCRUB-5  One compactor at a time reads a tenant, under a lease of its own: merging goes on meanwhile. Who takes over goes on where the one before
//       had come to (`cursor`).
//   SCRUB-6  What was found and stays damaged is known to every compactor, also after restarts: it is not merged until a scrub finds it sound.
//   SCRUB-7  A damaged manifest does not wait for the blocks that are being read, which may take days: until it is right nothing of its tenant is
//       flushed, merged or purged.
import { AssertionError } from '../../../shared/base/assert.ts'
import type { Clock } from '../../../shared/base/clock.ts'
import { ConflictError, CorruptError, RefusedError, textOf, UnavailableError } from '../../../shared/base/errors.ts'
import type { Blocks } from '../../../shared/blocks/port.ts'
import { readManifest } from '../../../shared/blocks/read-manifest.ts'
import type { HandlerContext } from '../../../shared/bus/actor.ts'
import { ask } from '../../../shared/bus/ask.ts'
import type { Bus } from '../../../shared/bus/port.ts'
import { keyFor } from '../../../shared/bus/record.ts'
import type { Manifest } from '../../../shared/contracts/blocks.ts'
import {
  rebuild,
  type ScrubFinding,
  type ScrubNowReply,
  type ScrubRecord,
  type ScrubRequest,
  type ScrubStatusReply,
  scrubLease,
  scrubRecord,
} from '../../../shared/contracts/scrubbing.ts'
import { type Lease, Leases } from '../../../shared/kv/leases.ts'
import { WatchedTable } from '../../../shared/kv/watched-table.ts'
import type { Membership } from '../../../shared/membership/membership.ts'
import type { ObjectStore } from '../../../shared/objects/port.ts'
import type { Log } from '../../../shared/telemetry/log.ts'
import type { Metrics } from '../../../shared/telemetry/metrics.ts'
import type { ClockWitness } from '../clock-witness.ts'
import type { CompactorConfig } from '../config.ts'
import { isDoneInTime } from '../patience.ts'
import { type BlockScrubDeps, scrubBlock } from './scrub-block.ts'
import { Pace } from './scrub-files.ts'
import { scrubManifest } from './scrub-manifest.ts'
import type { ScrubMeasures } from './scrub-metrics.ts'
import { BEFORE_ALL, damagedIn, type Editable, keptOf, outcomeOf, recordAfter } from './scrub-record.ts'
import { Backup } from './second-store.ts'

export interface ScrubberDeps {
  readonly bus: Bus
  readonly blocks: Blocks
  readonly second: ObjectStore | undefined
  readonly membership: Membership
  readonly clock: Clock
  readonly witness: Pick<ClockWitness, 'fault'>
  readonly log: Log
  readonly metrics: Metrics
  readonly measures: ScrubMeasures
  readonly config: CompactorConfig
  readonly id: string
  readonly incarnation: string
  readonly signal: AbortSignal
}

/** How often a scrub under way is written down. */
const SAVE_MS = 15_000
/** A scrub that could not go on is tried again after this. */
const RETRY_MS = 10 * 60_000

export class Scrubber {
  private readonly deps: ScrubberDeps
  private readonly leases: Leases
  private readonly measures: ScrubMeasures
  private readonly blockDeps: BlockScrubDeps
  private readonly backup: Backup | undefined
  /** As the watch shows them. Bound: one per tenant. */
  private readonly records: WatchedTable<'tenant', ScrubRecord>
  private readonly triedAt = new Map<string, number>()
  private current: Editable<NonNullable<ScrubStatusReply['current']>> | undefined
  /** One tenant at a time. */
  private turns: Promise<unknown> = Promise.resolve()
  /** The tenants whose turn it is, with what was found so far. Bound: one, and one whose manifest is damaged. */
  private readonly underWay = new Map<string, Editable<ScrubRecord> | undefined>()
  /** When a damaged manifest was looked at last, monotonic. Bound: forgotten when it is not any more. */
  private readonly mendedAt = new Map<string, number>()
  private mending: { readonly tenant: string; readonly done: Promise<unknown> } | undefined
  private isLooking = false
  private isMending = false
  private isFilling = false

  constructor(deps: ScrubberDeps) {
    this.deps = deps
    const { blocks, second, clock, config, log, bus, membership } = deps
    const { bucket } = blocks
    this.leases = new Leases({ ...deps, bucket, record: scrubLease, leaseMs: config.leaseMs })
    this.records = new WatchedTable({ ...deps, bucket, record: scrubRecord })
    this.measures = deps.measures
    const pace = new Pace(clock, config.scrubBytesPerSecond)
    this.blockDeps = {
      ...{ objects: blocks.objects, second, pace, log },
      owners: () => membership.live('ingester').map(({ id }) => id),
      rebuild: (owner, asked) => ask(bus, rebuild, { id: owner }, asked, { signal: deps.signal }),
      count: (store, bytes) => {
        this.measures.read(store, bytes)
        if (this.current !== undefined) this.current.bytes += bytes
      },
      isListed: async (tenant, ulid) =>
        (await readManifest(blocks.bucket, tenant))?.blocks.some((entry) => entry.ulid === ulid) ?? false,
    }
    if (second === undefined) return
    const { copied } = this.measures
    this.backup = new Backup({ blocks, second, clock, log, pace, copied, keepMs: config.secondStoreKeepMs })
  }

  async start(): Promise<void> {
    await this.leases.start()
    await this.records.start()
  }

  async stop(): Promise<void> {
    await this.turns
    await this.mending?.done
    this.records.stop()
    await this.leases.stop()
  }

  renew(): Promise<void> {
    return this.leases.renew()
  }

  /** What is known of every tenant, whoever read it. */
  known(): Iterable<ScrubRecord> {
    return this.records.values()
  }

  private recordOf(tenant: string): ScrubRecord | undefined {
    const row = this.records.row({ tenant })
    return row?.kind === 'value' ? row.value : undefined
  }

  /** SCRUB-6 */
  isDamaged(tenant: string, ulid: string): boolean {
    return damagedIn(this.recordOf(tenant)).some((finding) => finding.ulid === ulid)
  }

  /** Damaged blocks, for those who ask what is set aside. */
  damaged(tenant?: string): { tenant: string; ulid: string; reason: string }[] {
    return [...this.records.values()]
      .filter((record) => tenant === undefined || record.tenant === tenant)
      .flatMap((record) =>
        damagedIn(record).map(({ ulid, file, offset, text }) => {
          return { tenant: record.tenant, ulid, reason: `${file} at byte ${offset}: ${text}` }
        }),
      )
  }

  status(tenant?: string): ScrubStatusReply {
    const tenants = [...this.records.values()].filter((record) => tenant === undefined || record.tenant === tenant)
    return {
      id: this.deps.id,
      ...(this.current === undefined ? {} : { current: { ...this.current } }),
      tenants: tenants.sort((a, b) => (a.tenant < b.tenant ? -1 : 1)),
      secondStore: this.deps.second === undefined ? '' : this.deps.config.secondStore || 'as given',
      notCopied: this.notCopied(),
    }
  }

  /** Reads one tenant, or all, one after the other. */
  async now({ tenant }: ScrubRequest, context: HandlerContext): Promise<ScrubNowReply> {
    const { blocks, clock, id } = this.deps
    const known = blocks.tenants()
    if (tenant !== undefined && !known.includes(tenant))
      throw new RefusedError('err-carillon-not-found', `tenant "${tenant}" has no blocks`, { status: 404 })
    const tenants: ScrubRecord[] = []
    const elsewhere: string[] = []
    const working = (async () => {
      for (const each of tenant === undefined ? known : [tenant]) {
        const record = await this.scrub(each, true)
        if (record === undefined) elsewhere.push(each)
        else tenants.push(record)
      }
    })()
    const isDone = await isDoneInTime(working, context, clock)
    return { id, tenants: [...tenants], isDone, elsewhere: [...elsewhere] }
  }

  // ---- schedule ----

  /** Begins with what is due, unless that is under way. */
  look(): void {
    if (this.deps.config.scrubEveryMs === 0) return
    if (!this.isMending) {
      this.isMending = true
      void this.mendAll().finally(() => {
        this.isMending = false
      })
    }
    if (this.isLooking) return
    this.isLooking = true
    void this.lookAtAll().finally(() => {
      this.isLooking = false
    })
  }

  /** SCRUB-7 */
  private async mendAll(): Promise<void> {
    const { blocks, clock, signal } = this.deps
    for (const tenant of blocks.tenants()) {
      if (signal.aborted) return
      if (!this.isManifestDamaged(tenant)) this.mendedAt.delete(tenant)
      else if (clock.monotonic() - (this.mendedAt.get(tenant) ?? Number.NEGATIVE_INFINITY) >= RETRY_MS) {
        this.mendedAt.set(tenant, clock.monotonic())
        this.mending = { tenant, done: this.mend(tenant) }
        await this.mending.done
        this.mending = undefined
      }
    }
  }

  private async lookAtAll(): Promise<void> {
    for (const tenant of this.deps.blocks.tenants()) {
      if (this.deps.signal.aborted) return
      if (this.isDue(tenant)) await this.scrub(tenant, false)
    }
  }

  private isDue(tenant: string): boolean {
    const { clock, config } = this.deps
    if (clock.monotonic() - (this.triedAt.get(tenant) ?? Number.NEGATIVE_INFINITY) < RETRY_MS) return false
    if (this.isManifestDamaged(tenant)) return false // SCRUB-7
    const record = this.recordOf(tenant)
    if (record === undefined || record.endedAtMs === undefined) return true
    return Math.abs(clock.now() - record.endedAtMs) >= config.scrubEveryMs
  }

  private isManifestDamaged(tenant: string): boolean {
    try {
      this.deps.blocks.manifest(tenant)
      return false
    } catch (error) {
      if (error instanceof CorruptError) return error.code !== 'newer-version'
      throw error
    }
  }

  /** Copies what is new into the second store. */
  fill(): void {
    const { backup } = this
    const { blocks, log, signal } = this.deps
    if (backup === undefined || !this.deps.config.secondStoreFill || this.isFilling) return
    this.isFilling = true
    const work = async () => {
      for (const tenant of blocks.tenants()) {
        if (signal.aborted) return
        await backup.fill(tenant, signal).catch((error: unknown) => {
          if (error instanceof AssertionError) throw error
          if (!signal.aborted) log.warn({ tenant, reason: textOf(error) }, 'the second store was not filled')
        })
      }
    }
    void work().finally(() => {
      this.isFilling = false
    })
  }

  private notCopied(): number {
    const { blocks } = this.deps
    if (this.backup === undefined || !this.deps.config.secondStoreFill) return 0
    return blocks.tenants().reduce((sum, tenant) => {
      const manifest = quietly(() => blocks.manifest(tenant)?.manifest)
      return sum + (manifest === undefined ? 0 : this.backup!.notCopied(tenant, manifest))
    }, 0)
  }

  // ---- one tenant ----

  /** From the start when it is asked for, else from where the one before broke off. Undefined when another compactor is at it. */
  scrub(tenant: string, isAsked: boolean): Promise<ScrubRecord | undefined> {
    const turn = this.turns.then(() => this.take(tenant, isAsked))
    this.turns = turn.catch(() => {}) // whoever asked for it hears it
    return turn
  }

  private async take(tenant: string, isAsked: boolean): Promise<ScrubRecord | undefined> {
    while (this.mending?.tenant === tenant) await this.mending.done
    if (this.deps.signal.aborted) return undefined
    this.triedAt.set(tenant, this.deps.clock.monotonic())
    return this.withRecord(tenant, isAsked, async (record, signal) => {
      try {
        await this.readAll(record, signal)
      } finally {
        this.current = undefined
      }
    })
  }

  /** As a finding of the scrub that is under way, or of one that then goes on with the blocks. */
  private async mend(tenant: string): Promise<void> {
    const read = async (record: Editable<ScrubRecord>) => {
      await this.readManifest(record)
      this.deps.blocks.manifest(tenant) // throws while it is damaged
      if (record.cursor === '') record.cursor = BEFORE_ALL
    }
    if (!this.underWay.has(tenant)) return void (await this.withRecord(tenant, false, read))
    const record = this.underWay.get(tenant)
    if (record === undefined) return // its turn begins with the manifest
    await read(record).catch((error: unknown) => this.told(tenant, error))
  }

  /** What is found is written down, however far it came. Undefined when another compactor is at it. */
  private async withRecord(
    tenant: string,
    isAsked: boolean,
    read: (record: Editable<ScrubRecord>, signal: AbortSignal) => Promise<void>,
  ): Promise<ScrubRecord | undefined> {
    this.underWay.set(tenant, undefined)
    try {
      return await this.underLease(tenant, isAsked, read)
    } finally {
      this.underWay.delete(tenant)
    }
  }

  private async underLease(
    tenant: string,
    isAsked: boolean,
    read: (record: Editable<ScrubRecord>, signal: AbortSignal) => Promise<void>,
  ): Promise<ScrubRecord | undefined> {
    const { clock, log, id, signal } = this.deps
    if (this.records.row({ tenant })?.kind === 'newer-version') return undefined // one of that version does it
    let lease: Lease | undefined
    let record: Editable<ScrubRecord> | undefined
    try {
      lease = await this.leases.take(tenant, 0)
      if (lease === undefined) return undefined
      record = recordAfter(this.recordOf(tenant), { tenant, by: id, nowMs: clock.now(), isAsked })
      this.underWay.set(tenant, record)
      await read(record, AbortSignal.any([lease.signal, signal]))
    } catch (error) {
      const reason = this.told(tenant, lease?.signal.aborted ? lease.signal.reason : error)
      if (record === undefined) return undefined
      record.error = reason
    } finally {
      if (lease !== undefined && !lease.signal.aborted) {
        if (record !== undefined) await this.save(record)
        await this.leases.release(lease).catch((error: unknown) => log.warn({ tenant, error }, 'a lease stays'))
      }
    }
    return record
  }

  /** In words. */
  private told(tenant: string, error: unknown): string {
    if (error instanceof AssertionError) throw error
    const reason = textOf(error)
    if (!this.deps.signal.aborted) this.deps.log.warn({ tenant, reason }, 'a scrub did not come to its end')
    return reason
  }

  private async readManifest(record: Editable<ScrubRecord>): Promise<void> {
    const { blocks, second } = this.deps
    this.note(record, await scrubManifest(record.tenant, { blocks, second }))
  }

  private async readAll(record: Editable<ScrubRecord>, signal: AbortSignal): Promise<void> {
    const { blocks, clock, log } = this.deps
    const { tenant } = record
    if (record.cursor === '') await this.readManifest(record)
    const manifest = blocks.manifest(tenant)?.manifest // throws while it is damaged: told above
    if (manifest === undefined) return
    const entries = manifest.blocks
      .filter(({ ulid }) => ulid > record.cursor)
      .sort((a, b) => (a.ulid < b.ulid ? -1 : 1))
    const before = record.bytes
    this.current = { tenant, blocks: record.blocks, blocksLeft: entries.length, bytes: before }
    let savedAt = clock.monotonic()
    for (const entry of entries) {
      signal.throwIfAborted()
      const found = await scrubBlock(tenant, entry, this.blockDeps, signal)
      this.note(record, found)
      this.measures.block(outcomeOf(found))
      record.blocks += 1
      record.cursor = entry.ulid
      record.bytes = this.current.bytes
      this.current.blocks += 1
      this.current.blocksLeft -= 1
      if (clock.monotonic() - savedAt < SAVE_MS) continue
      await this.save(record)
      savedAt = clock.monotonic()
    }
    this.note(record, await this.unlisted(tenant, signal))
    const mayForget = (await this.deps.witness.fault()) === undefined // CLOCK-1
    if (this.deps.config.secondStoreFill && mayForget) await this.backup?.sweep(tenant, manifest)
    record.endedAtMs = clock.now()
    const { blocks: blockCount, bytes, findingCount } = record
    log.info({ tenant, blocks: blockCount, bytes, findings: findingCount }, 'everything that is stored was read')
  }

  private note(record: Editable<ScrubRecord>, findings: readonly ScrubFinding[]): void {
    const { log } = this.deps
    for (const finding of findings) {
      const { what, state, ulid, file, offset, text } = finding
      this.measures.finding(finding)
      if (state !== 'told') log.error({ tenant: record.tenant, what, state, ulid, file, offset }, `scrub: ${text}`)
    }
    record.findingCount += findings.length
    record.findings = keptOf([...record.findings, ...findings])
  }

  /** Old files that belong to no block: told; the compactor's sweep deletes those that nobody can list any more. */
  private async unlisted(tenant: string, signal: AbortSignal): Promise<ScrubFinding[]> {
    const { blocks, clock, config } = this.deps
    signal.throwIfAborted()
    const found = await blocks.listBlocks(tenant)
    const manifest: Manifest | undefined = await readManifest(blocks.bucket, tenant)
    const known = new Set([...(manifest?.blocks ?? []), ...(manifest?.retired ?? [])].map(({ ulid }) => ulid))
    return found
      .filter(({ ulid, storedAtMs }) => !known.has(ulid) && clock.now() - storedAtMs >= config.orphanGraceMs)
      .map(({ ulid, bytes, isWhole }): ScrubFinding => {
        const text = `${bytes} bytes of ${isWhole ? 'a block' : 'an unfinished block'} that nobody lists`
        return { what: 'unlisted', state: 'told', ulid, file: '', offset: 0, text }
      })
  }

  private async save(record: ScrubRecord): Promise<void> {
    try {
      const { tenant } = record
      await this.deps.blocks.bucket.put(keyFor(scrubRecord, { tenant }), scrubRecord.format.encode(record))
    } catch (error) {
      if (!(error instanceof UnavailableError || error instanceof ConflictError)) throw error
      this.deps.log.warn({ tenant: record.tenant, reason: error.message }, 'how far a scrub is was not written down')
    }
  }
}

function quietly<T>(read: () => T): T | undefined {
  try {
    return read()
  } catch (error) {
    if (error instanceof CorruptError) return undefined
    throw error
  }
}
