// The leader of a partition, its first owner, opens segments by writing marks (L8).
//
// Invariants
//   E1  M(k+1) is written by compare-and-set on the mark subject, never sooner than `segmentMinMs` after this process saw M(k).
//       Looked at again behind each wait: another may lead as well, and its mark may have been applied meanwhile.
//       Only what stands on the mark subject and is no mark is answered with a mark at once: nothing is acknowledged until then.
//   E2  After a refusal or a timeout the newest mark is read back and its nonce compared: the winner may be this process.

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
import { readRecord } from '../../shared/kv/read-records.ts'
import { updateRecord } from '../../shared/kv/update.ts'
import type { Log } from '../../shared/telemetry/log.ts'
import type { Metrics } from '../../shared/telemetry/metrics.ts'
import type { IngesterConfig } from './config.ts'
import { firstUnflushed } from './flush.ts'
import type { Owner } from './owner.ts'
import type { OwnerMetrics } from './owner-metrics.ts'

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
/** No segment grows beyond this share of its log: two of them stay when the rest is flushed and purged. */
const SEGMENT_SHARE = 1 / 8
/** A log that is this full is cut as often as it may be, so that it can be purged before it takes no more batches (L7). */
const FILLING_SHARE = 0.7

/** Writes the next mark of a partition that this ingester leads, if one is due. */
export async function leadPartition(owner: Owner, deps: LeaderDeps): Promise<void> {
  if (!owner.isCaughtUp || !isDue(owner, deps)) return
  const number = await nextNumber(owner, deps)
  if (number === undefined || number <= owner.state.segment) return
  if (!owner.isCaughtUp || !isDue(owner, deps)) return // another leader's mark may have come meanwhile
  const mark: Mark = { number, writer: deps.id, nonce: hex(deps.random.bytes(16)) }
  if (!(await append(owner, mark, deps))) return
  deps.metrics.marks.inc()
  deps.log.info({ partition: owner.partition, mark: mark.number }, 'segment opened')
  await remember(owner, mark.number, deps)
}

/** Never less than what stands there: another leader may have gone on while this process stood still. */
async function remember(
  owner: Owner,
  number: number,
  { bucket, clock, log, registry: metrics }: LeaderDeps,
): Promise<void> {
  const change = (before = 0) => Math.max(before, number)
  await updateRecord({ bucket, clock, log, metrics, record: markRecord, params: owner, change })
}

/** E1 */
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

/** Of a log that is full but for the room of marks: with two closed segments to flush it can be purged, and more marks would only take that room (L7). */
function hasEnough(owner: Owner, blocks: LeaderDeps['blocks']): boolean {
  const { end, state } = owner
  if (blocks === undefined || end === undefined || fits('restated', end, 0)) return false
  return state.segment - firstUnflushed(owner, blocks) >= 2
}

/** One above the newest mark, also above one that only the bucket remembers: a log that lost its end would accept a number again. undefined:
 *  a newer version remembers it in a way that this one cannot read. */
async function nextNumber(owner: Owner, deps: LeaderDeps): Promise<number | undefined> {
  const { bucket, blocks, log, registry: metrics } = deps
  const found = await readRecord({ bucket, log, metrics }, markRecord, owner)
  if (found.kind === 'newer-version') return undefined
  const remembered = found.kind === 'value' ? found.value : 0
  const flushed = blocks?.flushedRecord(owner.partition)?.segment ?? 0
  return Math.max(owner.state.segment, remembered, flushed) + 1
}

/** True when the mark stands in the log (E2). */
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
