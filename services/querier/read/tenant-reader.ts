// Reads everything that exists of a tenant: what owners hold in memory, and beside it what stands in blocks.
//
// Invariants
//   QUERY-8   Owners are asked for exactly what the blocks that are read do not hold: watermarks and blocks come from one view (LOG-15). When an
//        owner has dropped what it was asked for, or a block is no longer listed, all is read again by a newer view (LOG-18).
//   QUERY-9   A block that cannot be read is an error, or with `partial_response` a warning; never a silently shorter answer.
//   QUERY-10  A range that ends before a block begins, or begins after it ends, does not touch it.

import type { Breath } from '../../../shared/base/breathing.ts'
import { CarillonError, CorruptError, RefusedError, textOf, UnavailableError } from '../../../shared/base/errors.ts'
import { isLeftOut } from '../../../shared/blocks/left-out.ts'
import type { BlockEntry } from '../../../shared/contracts/blocks.ts'
import { WHATEVER_IS_HELD } from '../../../shared/contracts/read.ts'
import type { Interval } from '../../../shared/model/interval.ts'
import type { SeriesSource } from '../../../shared/promql/source.ts'
import { type Account, Share } from '../limits/budget.ts'
import { windowChoice } from '../windows/window-choice.ts'
import { type HiddenParts, hiddenOf } from './hidden-samples.ts'
import type { OpenBlock, OpenBlocks } from './open-blocks.ts'
import { DroppedError, type OwnerCall, type PartitionReader, type ReadScope } from './partition-reader.ts'
import type { View, Views } from './snapshots.ts'

export interface BlockCall {
  readonly entry: BlockEntry
  readonly block: OpenBlock
  readonly hidden: HiddenParts
  readonly signal: AbortSignal
  readonly breath: Breath
}

/** What one attempt at reading counts, and how much there is to unite. */
export interface Reading {
  readonly account: Account
  /** What this attempt goes by. */
  readonly view: View
  readonly sourceCount: number
  /** The most series that any block had so far: blocks of one tenant hold mostly the same ones. */
  readonly blockSeries: { peak: number }
}

export interface HowToRead<T> {
  owner(call: OwnerCall, reading: Reading): Promise<T>
  /** Absent for what blocks do not hold. */
  block?(call: BlockCall, reading: Reading): Promise<T>
  /** The blocks to read, once owners have answered; absent: all raw ones that overlap the range. */
  pick?(view: View, fromOwners: readonly T[]): readonly BlockEntry[]
}

export interface WholeReader {
  /** One answer per partition and block that could be read. Spends of `budget`. */
  readAll<T>(scope: ReadScope, range: Interval, budget: Account, how: HowToRead<T>): Promise<T[]>
  /** The newest view there is, for what is looked up before anything is read. */
  view(scope: ReadScope): Promise<View>
  partitionCount(): number
  /** As the partition reader's. */
  confirmed: PartitionReader['confirmed']
  /** How a query of the tenant chooses windows; undefined: it has none. */
  windowChoice(
    scope: { readonly tenant: string; readonly signal: AbortSignal },
    lengthMaxMs: number | undefined,
  ): Promise<SeriesSource['windowFor']>
}

export interface WholeReaderDeps {
  readonly partitions: PartitionReader
  readonly views: Views
  readonly openBlocks: OpenBlocks
  readonly blockReadsMax: number
  onRetry(): void
  onBlockFailure(ulid: string, error: CarillonError): void
}

/** Views tried for one read: each later one is newer. */
const ATTEMPTS_MAX = 5

/** Made once: an error of its own for every read would cost more than the rest of ending it. */
const ENDED = new Error('the read is over')

/** The view that a read went by is no longer what stands. */
class OutdatedError extends UnavailableError {}

export function createWholeReader(deps: WholeReaderDeps): WholeReader {
  const { partitions, views, blockReadsMax } = deps
  return {
    readAll,
    view: (scope) => viewFor(scope, false),
    partitionCount: () => partitions.partitionCount(),
    confirmed: (scope) => partitions.confirmed(scope),
    windowChoice: (scope, lengthMaxMs) => windowChoice(views, scope, lengthMaxMs),
  }

  async function readAll<T>(scope: ReadScope, range: Interval, budget: Account, how: HowToRead<T>): Promise<T[]> {
    const isStrong = scope.places.length > 0
    for (let attempt = 1; ; attempt++) {
      const view = await viewFor(scope, isStrong && attempt === 1)
      const share = new Share(budget)
      try {
        return await readBy(view, scope, range, share, how)
      } catch (error) {
        share.giveBack()
        const isOutdated = error instanceof DroppedError || error instanceof OutdatedError
        if (!isOutdated || attempt === ATTEMPTS_MAX) throw error
        deps.onRetry()
        await views.refresh()
      }
    }
  }

  /** What was deleted before a strong read began must not show in it: the watch may not have told of it yet (LOG-20, DELETE-16). */
  async function viewFor(scope: ReadScope, mustBeNew: boolean): Promise<View> {
    try {
      if (mustBeNew && !isLeftOut('fresh')) await views.refresh()
      return await views.take(scope.tenant, partitions.partitionCount(), scope.signal)
    } catch (error) {
      if (!scope.allowsPartial || !(error instanceof CarillonError) || scope.signal.aborted) throw error
      scope.warn(`no blocks are read: ${error.message} (${error.code})`)
      const watermarks = new Array<number>(partitions.partitionCount()).fill(WHATEVER_IS_HELD)
      return { blocks: [], deletes: [], version: 0, watermarks }
    }
  }

  async function readBy<T>(
    view: View,
    scope: ReadScope,
    range: Interval,
    account: Account,
    how: HowToRead<T>,
  ): Promise<T[]> {
    const { block: readBlock, owner, pick } = how
    const isRead = (entry: BlockEntry) => entry.resolutionMs === 0 && overlaps(entry, range)
    const overlapping = readBlock === undefined ? [] : view.blocks.filter(isRead)
    const reading = {
      account,
      view,
      sourceCount: partitions.partitionCount() + (pick === undefined ? overlapping : view.blocks).length,
      blockSeries: { peak: 0 },
    }
    const ended = new AbortController() // the failure of one part ends the others
    const within = {
      ...scope,
      signal: AbortSignal.any([scope.signal, ended.signal]),
      watermarks: view.watermarks,
      manifestVersion: view.version,
    }
    try {
      const fromOwners = partitions.readAll(within, (call) => owner(call, reading))
      const entries = pick === undefined ? overlapping : pick(view, await fromOwners)
      if (readBlock === undefined || entries.length === 0) return await fromOwners
      const fromBlocks = readBlocks(entries, within, (entry) => readOne(entry, view, range, within, readBlock, reading))
      return (await Promise.all([fromOwners, fromBlocks])).flat()
    } finally {
      ended.abort(ENDED)
    }
  }

  async function readBlocks<T>(
    entries: readonly BlockEntry[],
    scope: ReadScope,
    read: (entry: BlockEntry) => Promise<T | undefined>,
  ): Promise<T[]> {
    const answers: (T | undefined)[] = new Array(entries.length).fill(undefined)
    let next = 0
    const worker = async () => {
      while (next < entries.length) {
        const at = next++
        scope.signal.throwIfAborted()
        answers[at] = await read(entries[at]!)
      }
    }
    await Promise.all(Array.from({ length: Math.min(blockReadsMax, entries.length) }, worker))
    return answers.filter((answer) => answer !== undefined)
  }

  async function readOne<T>(
    entry: BlockEntry,
    { deletes }: View,
    range: Interval,
    scope: ReadScope,
    read: NonNullable<HowToRead<T>['block']>,
    reading: Reading,
  ): Promise<T | undefined> {
    const { signal, breath } = scope
    try {
      const block = await untilAborted(deps.openBlocks.open(scope.tenant, entry), signal)
      const call = { entry, block, hidden: hiddenOf(block, deletes, range), signal, breath }
      const answer = await read(call, reading)
      call.signal.throwIfAborted()
      for (const gap of entry.gaps ?? []) scope.warn(`block ${entry.ulid}: ${gap}`)
      return answer
    } catch (error) {
      if (signal.aborted || !(error instanceof CarillonError) || error instanceof RefusedError) throw error
      if (error instanceof CorruptError && !(await isListed(scope.tenant, entry.ulid))) {
        const text = `block ${entry.ulid} is no longer listed`
        throw new OutdatedError('err-carillon-block-replaced', text, { cause: error })
      }
      const failure = failureOf(entry, error)
      deps.onBlockFailure(entry.ulid, failure)
      if (!scope.allowsPartial) throw failure // QUERY-9
      scope.warn(`${failure.message} (${failure.code})`)
      return undefined
    }
  }

  /** As the bucket is now: only of what is listed must every byte be there. */
  async function isListed(tenant: string, ulid: string): Promise<boolean> {
    await views.refresh()
    return (
      views
        .opened()
        .manifest(tenant)
        ?.manifest.blocks.some((entry) => entry.ulid === ulid) === true
    )
  }
}

/** Samples of a block lie in [minTime, maxTime), the range holds both its ends. */
export function overlaps({ minTime, maxTime }: BlockEntry, { startMs, endMs }: Interval): boolean {
  return minTime <= endMs && maxTime > startMs
}

function failureOf({ ulid }: BlockEntry, error: CarillonError): CarillonError {
  const text = `block ${ulid}: ${textOf(error)}`
  if (error instanceof CorruptError) return new CorruptError('err-carillon-block-damaged', text, { cause: error })
  return new UnavailableError('err-carillon-block-unavailable', text, { cause: error })
}

/** What others may wait for as well goes on without this one. */
function untilAborted<T>(work: Promise<T>, signal: AbortSignal): Promise<T> {
  return new Promise((resolve, reject) => {
    if (signal.aborted) return reject(signal.reason)
    const onAbort = () => reject(signal.reason)
    signal.addEventListener('abort', onAbort, { once: true })
    work.then(resolve, reject).finally(() => signal.removeEventListener('abort', onAbort))
  })
}
