// The leader of a partition, its first owner, opens segments by writing marks (LOG-8).
//
// Invariants
//   LEADER-1  M(k+1) is written by compare-and-set on the mark subject, never sooner than `segmentMinMs` after this process saw M(k).
//       Looked at again behind each wait: another may lead as well, and its mark may have been applied meanwhile.
//       Only what stands on the mark subject and is no mark is answered with a mark at once: nothing is acknowledged until then.
//   LEADER-2  After a refusal or a timeout the newest mark is read back and its nonce compared: the winner may be this process.
//   LEADER-3  Whenever the end of the log is read, its newest mark is compared with the one that was applied last. Where it is another, though all up to it
//       was applied, the log has lost marks, or did not deliver one and never will: the next is written at once, above both.
//   LEADER-4  What stands is remembered in the bucket before the next is written: the bucket is never more than one behind, and no writer goes by less.
//   LEADER-5  Where the log has lost its end it gives sequences again: the next mark is written at once, and says that it is the first behind the loss, and so
//       do all behind it (`since`). What stands in segments below was written before.

import type { Clock } from '../../shared/base/clock.ts'
import { ConflictError, RefusedError, textOf, UnavailableError } from '../../shared/base/errors.ts'
import { hex, type Random } from '../../shared/base/random.ts'
import type { Blocks } from '../../shared/blocks/port.ts'
import type { Bus, KvBucket } from '../../shared/bus/port.ts'
import {
  decodeMark,
  encodeMark,
  fits,
  logName,
  type Mark,
  markRecord,
  markSubject,
} from '../../shared/contracts/log.ts'
import { rememberMark } from '../../shared/kv/known-ends.ts'
import { readRecord } from '../../shared/kv/read-records.ts'
import type { Log } from '../../shared/telemetry/log.ts'
import type { Metrics } from '../../shared/telemetry/metrics.ts'
import type { IngesterConfig } from './config.ts'
import { firstUnflushed } from './flush/flush.ts'
import type { Owner } from './log/owner.ts'
import type { OwnerMetrics } from './log/owner-metrics.ts'

export interface LeaderDeps {
  readonly bus: Bus
  readonly bucket: KvBucket
  readonly clock: Clock
  readonly random: Random
  readonly log: Log
  readonly config: IngesterConfig
  readonly metrics: OwnerMetrics
  /** Where unreadable records are counted. */
  readonly registry?: Metrics
  readonly id: string
  /** A number that is flushed is never given again. */
  readonly blocks?: Pick<Blocks, 'flushedRecord'>
}

const APPEND_TIMEOUT_MS = 5_000
/** Marks of different partitions are spread over this share of a segment. */
const JITTER = 0.1
/** Marks that a log loses, or does not deliver, again and again are written at least so far apart. */
const AGAIN_MS = 10_000
/** No segment grows beyond this share of its log: two of them stay when the rest is flushed and purged. */
const SEGMENT_SHARE = 1 / 8
/** A log that is this full is cut as often as it may be, so that it can be purged before it takes no more batches (LOG-7). */
const FILLING_SHARE = 0.7

/** Writes the next mark of a partition that this ingester leads, if one is due. */
export async function leadPartition(owner: Owner, deps: LeaderDeps): Promise<void> {
  if (!owner.isCaughtUp) return
  const { mark: applied } = owner.state
  const other = await otherMark(owner, deps)
  const isLost = () => owner.lostEnd.upTo !== undefined && !isAgain(owner, deps)
  const isWanted = () => isDue(owner, deps) || isLost() || (other !== undefined && owner.state.mark === applied)
  if (!isWanted()) return
  const number = await nextNumber(owner, deps, other)
  if (number === undefined || number <= owner.state.segment) return
  if (!owner.isCaughtUp || !isWanted()) return // another leader's mark may have come meanwhile
  const { mark: before } = owner.state
  const isLostNow = owner.lostEnd.upTo !== undefined
  const isFirst = isLostNow || (before === undefined && number > 1)
  const since = isFirst ? number : before?.since // LEADER-5
  const nonce = hex(deps.random.bytes(16))
  const mark: Mark = { number, writer: deps.id, nonce, ...(since !== undefined && { since }) }
  if (!(await append(owner, mark, deps))) return
  if (other !== undefined || isLostNow) owner.markedAgainMs = deps.clock.monotonic()
  deps.metrics.marks.inc()
  deps.log.info({ partition: owner.partition, mark: mark.number }, 'segment opened')
  await remember(owner, mark.number, deps)
}

/** One that may have to be written again was written a moment ago. */
function isAgain({ markedAgainMs }: Owner, { clock, config }: LeaderDeps): boolean {
  return clock.monotonic() - markedAgainMs < Math.min(AGAIN_MS, config.segmentMinMs)
}

/** LEADER-3: the number of the newest mark of the log where it is another than was applied, 0 where there is none; undefined: it is the same, or is yet to
 *  be applied. */
async function otherMark(owner: Owner, deps: LeaderDeps): Promise<number | undefined> {
  const { bus, log } = deps
  const { end, state, appliedSeq, partition } = owner
  const { mark } = state
  if (mark === undefined || end === owner.comparedEnd) return undefined
  owner.comparedEnd = end
  if (isAgain(owner, deps)) return undefined
  const found = await bus.logs.lastPerSubject(logName(partition), [markSubject(partition)], APPEND_TIMEOUT_MS)
  const [newest] = found.messages
  const seq = newest?.seq ?? 0
  if (owner.state !== state || state.mark !== mark) return undefined
  const isBehind = newest !== undefined && found.upToSeq < appliedSeq // of no mark nobody says up to where; the compare-and-set does
  if (isBehind || seq > appliedSeq) return undefined
  const read = newest && readable(newest.payload)
  if (read?.nonce === mark.nonce) return undefined
  log.error(
    { partition, applied: mark.number, newest: read?.number ?? 'none', seq },
    'the newest mark of the log is not the one that was applied: the next is written at once',
  )
  state.markSubjectSeq = seq
  return read?.number ?? 0
}

function remember({ partition }: Owner, number: number, { bucket, clock, log, registry }: LeaderDeps): Promise<void> {
  return rememberMark({ bucket, clock, log, ...(registry && { metrics: registry }) }, partition, number)
}

/** LEADER-1 */
function isDue(owner: Owner, { clock, config, blocks }: LeaderDeps): boolean {
  if (owner.state.mark === undefined || !owner.state.isMarkReadable) return true
  const ageMs = clock.monotonic() - owner.markSeenMs
  if (ageMs < config.segmentMinMs || hasEnough(owner, blocks)) return false
  if (owner.wantsMark) return true
  const spread = 1 + (JITTER * (owner.partition % 16)) / 16
  if (ageMs >= config.segmentMs * spread) return true
  const { bytes = 0, bytesMax: logBytesMax = 0 } = owner.end ?? {}
  if (logBytesMax <= 0) return owner.state.segmentBytes >= config.segmentBytesMax
  const bytesMax = Math.min(config.segmentBytesMax, logBytesMax * SEGMENT_SHARE)
  return owner.state.segmentBytes >= bytesMax || bytes >= logBytesMax * FILLING_SHARE
}

/** Of a log that is full but for the room of marks: with two closed segments to flush it can be purged, and more marks would only take that room (LOG-7). */
function hasEnough(owner: Owner, blocks: LeaderDeps['blocks']): boolean {
  const { end, state } = owner
  if (blocks === undefined || end === undefined || fits('restated', end, 0)) return false
  return state.segment - firstUnflushed(owner, blocks) >= 2
}

/** One above the newest mark, also above one that only the bucket remembers (a log that lost its end would accept a number again), or only the log
 *  shows. undefined: a newer version remembers it in a way that this one cannot read. */
async function nextNumber(owner: Owner, deps: LeaderDeps, inLog = 0): Promise<number | undefined> {
  const { bucket, blocks, log, registry: metrics } = deps
  const found = await readRecord({ bucket, log, metrics }, markRecord, owner)
  if (found.kind === 'newer-version') return undefined
  const remembered = found.kind === 'value' ? found.value : 0
  const flushed = blocks?.flushedRecord(owner.partition)?.segment ?? 0
  const newest = Math.max(owner.state.segment, remembered, flushed, inLog)
  if (newest > remembered) await remember(owner, newest, deps) // LEADER-4
  return newest + 1
}

/** True when the mark stands in the log (LEADER-2). */
async function append(owner: Owner, mark: Mark, { bus, log }: LeaderDeps): Promise<boolean> {
  const subject = markSubject(owner.partition)
  const { state } = owner
  try {
    await bus.logs.append(logName(owner.partition), subject, encodeMark(mark), {
      timeoutMs: APPEND_TIMEOUT_MS,
      expectedLastSubjectSeq: state.markSubjectSeq,
    })
    return true
  } catch (error) {
    if (!(error instanceof ConflictError) && !(error instanceof UnavailableError)) throw error
    log.debug({ partition: owner.partition, reason: textOf(error) }, 'mark not confirmed, reading back')
    const { messages } = await bus.logs.lastPerSubject(logName(owner.partition), [subject], APPEND_TIMEOUT_MS)
    if (messages[0] === undefined) {
      state.markSubjectSeq = 0 // the log lost its marks
      return false
    }
    const newest = readable(messages[0].payload)
    if (newest?.nonce === mark.nonce) return true
    const isNews = newest !== undefined && (state.mark === undefined || newest.number > state.mark.number)
    if (!isNews) state.markSubjectSeq = messages[0].seq // a mark was lost, or is none
    return false
  }
}

function readable(payload: Uint8Array): Mark | undefined {
  try {
    return decodeMark(payload)
  } catch (error) {
    if (error instanceof RefusedError) return undefined // told as damage when it is applied
    throw error
  }
}
