// Takes in blocks that were uploaded: claims what waits, checks all of it, writes blocks, lists them in the manifest, and forgets what is old.
// What holds for uploads as such stands in contracts/uploads.ts.
//
// Invariants
//   VALIDATE-1  An upload is validated by whoever wrote its record last as its validator; it is taken from another only after `leaseMs` without a change of
//       the record, by the own monotonic clock. Each claim counts, and its number stands in the names of its blocks: two validators never
//       write the same objects.
//   VALIDATE-2  What is listed is there (blocks/standing.ts, MANIFEST-5): if anything was swept since its files were begun, all of them are looked for again.
//   VALIDATE-3  Each upload is listed once: entries name it (`origin.nonce`), and whoever finds them lists nothing.
//   VALIDATE-4  A validation ends within `uploadValidateMs`: what takes longer is refused, before any of it is listed, and others have their turn.
import { AssertionError } from '../../../shared/base/assert.ts'
import type { Clock } from '../../../shared/base/clock.ts'
import { publicCode } from '../../../shared/base/error-codes.ts'
import { ConflictError, CorruptError, RefusedError, textOf, UnavailableError } from '../../../shared/base/errors.ts'
import type { Blocks } from '../../../shared/blocks/port.ts'
import { assertStanding, assertStored, SweptError } from '../../../shared/blocks/standing.ts'
import type { Bus, KvBucket } from '../../../shared/bus/port.ts'
import { showDuration } from '../../../shared/config/units.ts'
import { type BlockEntry, blockPrefix, type Manifest } from '../../../shared/contracts/blocks.ts'
import {
  stagedPrefix,
  UPLOAD_ERROR_LENGTH_MAX,
  UPLOADS_BUCKET,
  type UploadRecord,
  uploadKey,
  uploadRecord,
} from '../../../shared/contracts/uploads.ts'
import { WatchedTable } from '../../../shared/kv/watched-table.ts'
import { encodeTenant } from '../../../shared/model/tenant.ts'
import type { ObjectStore } from '../../../shared/objects/port.ts'
import type { Log } from '../../../shared/telemetry/log.ts'
import type { Metrics } from '../../../shared/telemetry/metrics.ts'
import { META_FILE, TOMBSTONES_FILE } from '../../../shared/tsdb/block/files.ts'
import type { CompactorConfig } from '../config.ts'
import type { CompactorMeasures } from '../metrics.ts'
import type { Importer, ImportIo, ImportJob } from '../worker/import-job.ts'
import { StagedFiles } from './staged-files.ts'
import { assertMayCome, describe, nameOf, withUploaded } from './upload-blocks.ts'
import { nextInTurn } from './upload-turns.ts'

const OBJECT_TIMEOUT_MS = 60_000
const LIST_TIMEOUT_MS = 60_000
/** Claims of one upload that ended without an outcome, before it is given up. */
const ATTEMPTS_MAX = 8
const SWEEP_GAP_MS = 60_000
/** Sweeps that come between the last look at the files and the manifest. */
const LIST_TRIES_MAX = 5

export interface UploadsDeps {
  readonly bus: Bus
  readonly objects: ObjectStore
  readonly blocks: Blocks
  readonly importer: Importer
  readonly clock: Clock
  readonly log: Log
  readonly metrics: Metrics
  readonly incarnation: string
  readonly config: CompactorConfig
  readonly measures: Pick<CompactorMeasures, 'uploaded'>
  /** How long the tenant keeps samples; Infinity: for ever. */
  readonly keepMsOf: (tenant: string) => number
}

/** An upload that is being validated here. */
interface Claim {
  record: UploadRecord
  revision: number
  readonly startedAt: number
  readonly lost: AbortController
}

export class Uploads {
  private readonly deps: UploadsDeps
  private bucket!: KvBucket
  /** Bound: records are deleted `uploadKeepMs` after their last change. */
  private seen!: WatchedTable<'tenant' | 'ulid', UploadRecord>
  private readonly claims = new Map<string, Claim>()
  private readonly works = new Set<Promise<void>>()
  private sweptAt = Number.NEGATIVE_INFINITY
  private isStopping = false

  constructor(deps: UploadsDeps) {
    this.deps = deps
  }

  async start(): Promise<void> {
    this.bucket = await this.deps.bus.bucket(UPLOADS_BUCKET)
    this.seen = new WatchedTable({ ...this.deps, bucket: this.bucket, record: uploadRecord })
    await this.seen.start()
  }

  async stop(): Promise<void> {
    this.isStopping = true
    this.seen.stop()
    for (const { lost } of this.claims.values())
      lost.abort(new UnavailableError('compactor-stopping', 'the compactor stops'))
    await Promise.all(this.works)
  }

  /** Begins to validate what waits, tenants in turn (upload-turns.ts). To be called often. */
  async look(): Promise<void> {
    const passedOver = new Set<string>() // bounded by the records
    while (!this.isStopping && this.claims.size < this.deps.config.uploadsValidatingMax) {
      const next = nextInTurn([...this.candidates(passedOver)])
      if (next === undefined) return
      const { key, record, revision } = next
      passedOver.add(key)
      const claim = await this.claim(record, revision)
      if (claim === undefined) continue
      this.claims.set(key, claim)
      const work: Promise<void> = this.work(claim).finally(() => {
        this.claims.delete(key)
        this.works.delete(work)
      })
      this.works.add(work)
    }
  }

  private *candidates(passedOver: ReadonlySet<string>) {
    const { clock, config } = this.deps
    for (const { key, kind, value, revision, since } of this.seen.rows()) {
      if (kind !== 'value' || value === undefined) continue
      const record = this.claims.get(key)?.record ?? value // the watch is late
      const isSilent = clock.monotonic() - since >= config.leaseMs
      const isOpen = record.state === 'waiting' || (record.state === 'validating' && isSilent) // VALIDATE-1
      yield { key, record, revision, isFree: isOpen && !this.claims.has(key) && !passedOver.has(key) }
    }
  }

  /** Says that it goes on; to be called several times within `leaseMs`. */
  async beat(): Promise<void> {
    for (const claim of this.claims.values()) {
      try {
        await this.write(claim, { beat: claim.record.beat + 1 })
      } catch (error) {
        if (error instanceof ConflictError)
          claim.lost.abort(error) // VALIDATE-1
        else if (!(error instanceof UnavailableError)) throw error
      }
    }
  }

  /** Forgets what was not changed for long. */
  async sweep(): Promise<void> {
    const { clock, config, log } = this.deps
    const gapMs = Math.min(SWEEP_GAP_MS, config.uploadKeepMs)
    if (clock.monotonic() - this.sweptAt < gapMs) return
    this.sweptAt = clock.monotonic()
    for (const { key, kind, value: record, revision, since } of [...this.seen.rows()]) {
      if (kind !== 'value' || record === undefined) continue
      const isIdle = record.state !== 'validating' && record.state !== 'waiting'
      const isOld = clock.now() - record.changedAtMs >= config.uploadKeepMs
      const isSeenLong = clock.monotonic() - since >= gapMs
      if (!isIdle || !isOld || !isSeenLong) continue
      try {
        const names = await this.staged(record)
        const ended = uploadRecord.format.encode(forgotten(record))
        const last = await this.bucket.update(key, ended, revision) // nobody has begun anew until here, nor can go on
        await this.unstage(names) // UPLOAD-3
        await this.bucket.delete(key, last)
        log.info({ tenant: record.tenant, ulid: record.ulid, state: record.state }, 'an old upload is forgotten')
      } catch (error) {
        if (!(error instanceof ConflictError || error instanceof UnavailableError)) throw error
        log.warn(
          { tenant: record.tenant, ulid: record.ulid, reason: textOf(error) },
          'an old upload could not be forgotten',
        )
      }
    }
  }

  private async claim(record: UploadRecord, revision: number): Promise<Claim | undefined> {
    const { clock, incarnation } = this.deps
    const claim: Claim = { record, revision, startedAt: clock.monotonic(), lost: new AbortController() }
    try {
      await this.write(claim, { state: 'validating', incarnation, beat: record.beat + 1, attempt: record.attempt + 1 })
      return claim
    } catch (error) {
      if (error instanceof ConflictError || error instanceof UnavailableError) return undefined // another has it, or later
      throw error
    }
  }

  private async write(claim: Claim, change: Partial<UploadRecord>): Promise<void> {
    const next: UploadRecord = { ...claim.record, ...change, changedAtMs: this.deps.clock.now() }
    const bytes = uploadRecord.format.encode(next)
    claim.revision = await this.bucket.update(uploadKey(next.tenant, next.ulid), bytes, claim.revision)
    claim.record = next
  }

  /** Ends with an outcome in the record, or leaves it to another. */
  private async work(claim: Claim): Promise<void> {
    let names: readonly string[] = []
    try {
      const blocks = await this.validate(claim)
      names = await this.stagedSoFar(claim.record)
      await this.complete(claim, blocks)
    } catch (error) {
      if (error instanceof AssertionError) throw error
      if (mayPass(claim, error)) {
        await this.giveBack(claim, error)
        return
      }
      names = await this.stagedSoFar(claim.record)
      await this.refuse(claim, error)
    }
    if (claim.record.state === 'complete' || claim.record.state === 'failed')
      await this.unstageSoon(claim.record, names)
  }

  private async complete(claim: Claim, blocks: readonly string[]): Promise<void> {
    const { clock, log, measures } = this.deps
    const { tenant, ulid } = claim.record
    await this.write(claim, { state: 'complete', incarnation: '', blocks })
    measures.uploaded('complete')
    log.info({ tenant, ulid, blocks, tookMs: Math.round(clock.monotonic() - claim.startedAt) }, 'an upload is complete')
  }

  private async giveBack(claim: Claim, error: unknown): Promise<void> {
    const { tenant, ulid } = claim.record
    const { signal } = claim.lost
    const reason = textOf(signal.aborted ? signal.reason : error)
    this.deps.log.warn({ tenant, ulid, reason }, 'an upload is validated again')
    await this.tell(claim, { state: 'waiting', incarnation: '' })
  }

  private async refuse(claim: Claim, error: unknown): Promise<void> {
    const { log, measures } = this.deps
    const { tenant, ulid } = claim.record
    const code =
      error instanceof RefusedError || error instanceof UnavailableError ? error.code : 'err-carillon-upload-damaged'
    const failure = {
      code: publicCode(code),
      text: textOf(error).slice(0, UPLOAD_ERROR_LENGTH_MAX),
    }
    measures.uploaded('failed')
    log.warn({ tenant, ulid, ...failure }, 'an upload is refused')
    await this.tell(claim, { state: 'failed', incarnation: '', error: failure })
  }

  private async tell(claim: Claim, change: Partial<UploadRecord>): Promise<void> {
    try {
      await this.write(claim, change)
    } catch (error) {
      if (!(error instanceof ConflictError || error instanceof UnavailableError)) throw error // silence tells it, too
    }
  }

  // ---- validating ----

  private async validate(claim: Claim): Promise<readonly string[]> {
    const { tenant } = claim.record
    const before = this.deps.blocks.manifest(tenant)?.manifest
    assertMayCome(before)
    const entries = await this.inTime(claim, (signal) => this.build(claim.record, signal))
    claim.lost.signal.throwIfAborted()
    return await this.list(claim, entries, before?.version ?? 0)
  }

  /** VALIDATE-4. */
  private async inTime<T>({ lost }: Claim, work: (signal: AbortSignal) => Promise<T>): Promise<T> {
    const { clock, config } = this.deps
    const late = new AbortController()
    const timer = clock.after(config.uploadValidateMs, () => late.abort(tooSlow(config.uploadValidateMs)))
    try {
      return await work(AbortSignal.any([lost.signal, late.signal]))
    } catch (error) {
      throw late.signal.aborted && !lost.signal.aborted ? late.signal.reason : error
    } finally {
      timer.cancel()
    }
  }

  /** Everything that an upload becomes, in the store. */
  private async build(record: UploadRecord, signal: AbortSignal): Promise<readonly BlockEntry[]> {
    const { objects, importer, clock, config } = this.deps
    const { tenant, ulid } = record
    const staged = await StagedFiles.open(objects, record, signal)
    const job: ImportJob = {
      ulid,
      hasTombstones: staged.has(TOMBSTONES_FILE),
      bytes: record.bytes,
      limits: {
        labelNamesPerSeriesMax: config.labelNamesPerSeriesMax,
        labelNameBytesMax: config.labelNameBytesMax,
        labelValueBytesMax: config.labelValueBytesMax,
      },
      latestMs: clock.now() + config.futureMs,
      earliestMs: clock.now() - this.deps.keepMsOf(tenant),
    }
    const token = encodeTenant(tenant)
    const put = (startMs: number, file: string, bytes: Uint8Array) =>
      objects.create(`${blockPrefix(token, nameOf(record, startMs))}${file}`, bytes, {
        ...{ timeoutMs: OBJECT_TIMEOUT_MS, signal, readBack: true }, // UPLOAD-1
      })
    const io: ImportIo = {
      size: async (_, file) => staged.size(file),
      read: (_, file, start, end) => staged.read(file, start, end, signal),
      write: async (startMs, file, bytes) => void (await put(Number(startMs), file, bytes)),
    }
    const report = await importer.import(job, io, signal)
    const entries: BlockEntry[] = []
    for (const output of report.outputs) {
      const { entry, bytes } = describe(record, report, output)
      await put(output.startMs, META_FILE, bytes)
      entries.push(entry)
    }
    return entries
  }

  /** `before`: the manifest's version before anything was written. */
  private async list(claim: Claim, entries: readonly BlockEntry[], before: number): Promise<readonly string[]> {
    const { blocks, objects, clock } = this.deps
    const { tenant } = claim.record
    const { signal } = claim.lost
    let ulids: readonly string[] = []
    let since = before
    const listed = (manifest: Manifest) => {
      signal.throwIfAborted()
      assertMayCome(manifest)
      const next = withUploaded(manifest, { record: claim.record, entries, nowMs: clock.now() }) // VALIDATE-3
      ulids = next.ulids
      if (next.manifest !== undefined) assertStanding(manifest, ulids, since) // VALIDATE-2
      return next.manifest
    }
    for (let attempt = 1; ; attempt++) {
      try {
        await blocks.update(tenant, listed, { signal })
        return ulids
      } catch (error) {
        if (!(error instanceof SweptError) || error.version === undefined || attempt === LIST_TRIES_MAX) throw error
        since = error.version
        await assertStored(objects, tenant, entries, signal)
      }
    }
  }

  // ---- cleaning ----

  /** All that is staged for the block, by any start until now. To be asked before the record is changed for the last time: a later start
   *  writes only after that. */
  private async staged({ tenant, ulid }: UploadRecord): Promise<readonly string[]> {
    const found = await this.deps.objects.list(stagedPrefix(tenant, ulid), { timeoutMs: LIST_TIMEOUT_MS })
    return found.map(({ name }) => name)
  }

  private async unstage(names: readonly string[]): Promise<void> {
    for (const name of names) await this.deps.objects.delete(name, { timeoutMs: OBJECT_TIMEOUT_MS })
  }

  /** At once where it works; else when the record is forgotten. */
  private async stagedSoFar(record: UploadRecord): Promise<readonly string[]> {
    let names: readonly string[] = []
    await this.maybeLater(record, async () => {
      names = await this.staged(record)
    })
    return names
  }

  private unstageSoon(record: UploadRecord, names: readonly string[]): Promise<void> {
    return this.maybeLater(record, () => this.unstage(names))
  }

  private async maybeLater({ tenant, ulid }: UploadRecord, work: () => Promise<void>): Promise<void> {
    try {
      await work()
    } catch (error) {
      if (!(error instanceof UnavailableError || error instanceof CorruptError)) throw error
      this.deps.log.warn({ tenant, ulid, reason: textOf(error) }, 'files of a finished upload stay for now')
    }
  }
}

/** Whether a validation that failed is worth another try. */
function mayPass({ lost, record }: Claim, error: unknown): boolean {
  const isOurs = lost.signal.aborted || error instanceof UnavailableError || error instanceof ConflictError
  return isOurs && record.attempt < ATTEMPTS_MAX
}

function tooSlow(ms: number): RefusedError {
  const text = `validating it took longer than ${showDuration(ms)} (--upload-validate); send it in smaller blocks`
  return new RefusedError('err-carillon-upload-slow', text, { status: 422 })
}

/** What nobody has finished can not be gone on with while its files are deleted. */
function forgotten(record: UploadRecord): UploadRecord {
  if (record.state !== 'uploading') return record
  const text = 'nobody finished it for too long: start it again'
  return { ...record, state: 'failed', error: { code: 'err-carillon-upload-forgotten', text } }
}
