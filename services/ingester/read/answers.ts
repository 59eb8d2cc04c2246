// What an owner answers: series, samples, names, values, metadata, exemplars of one partition and tenant.

import { RefusedError, UnavailableError } from '../../../shared/base/errors.ts'
import {
  type ExemplarsReply,
  type HeadStatsReply,
  type KnownReply,
  type KnownRequest,
  type LabelValuesRequest,
  type MetadataReply,
  type MetadataRequest,
  type OwnerRequest,
  type OwnerStamp,
  type SelectFrame,
  type SelectRequest,
  type SeriesRequest,
  type StringsReply,
  WHATEVER_IS_HELD,
} from '../../../shared/contracts/read.ts'
import { ALL_TIME } from '../../../shared/model/interval.ts'
import { compareBytes } from '../../../shared/model/labels.ts'
import { seriesHashOf } from '../../../shared/ring/series-hash.ts'
import { Head } from '../../../shared/tsdb/head/head.ts'
import type { RefCursor } from '../../../shared/tsdb/head/ref-cursor.ts'
import type { StringTable } from '../../../shared/tsdb/head/string-table.ts'
import type { Owner } from '../log/owner.ts'
import { describe } from '../state/damage.ts'
import type { PartitionState } from '../state/partition-state.ts'
import { FrameBuilder } from './frames.ts'
import type { IsShown } from './hiding.ts'

/** Series looked at between two looks at the signal. */
const STRIDE = 1024
/** Damage that one answer names. */
const WARNINGS_MAX = 10

/** A walk over series of a head that lasts over awaits, while the owner goes on applying and dropping, or stops (STATE-6). */
export class Walk {
  private readonly state: PartitionState
  private readonly partition: number
  private readonly cursor: RefCursor
  private readonly endReading: () => void
  private readonly giveUp: () => void

  constructor(owner: Pick<Owner, 'state' | 'partition'>, strings: StringTable, head: Head, refs: Uint32Array) {
    this.state = owner.state
    this.partition = owner.partition
    this.giveUp = this.state.use.reading()
    this.cursor = head.cursor(refs)
    this.endReading = strings.reading()
  }

  /** The next ref, −1 at the end. */
  next(): number {
    return this.cursor.next()
  }

  /** Before the first series and after each await: an answer that was half given when a segment was dropped would have a hole. */
  checkHeld(watermark: number): void {
    const { droppedUpTo } = this.state
    if (droppedUpTo <= watermark || watermark === WHATEVER_IS_HELD) return
    const text = `partition ${this.partition}: segments up to ${droppedUpTo} went to blocks while they were read`
    throw new RefusedError('err-carillon-dropped', text)
  }

  close(): void {
    this.cursor.close()
    this.endReading()
    this.giveUp()
  }
}

export function allRefs(head: Head): Uint32Array {
  return new Uint32Array(head.seriesCount).map((_, ref) => ref)
}

/** Throws UnavailableError `err-carillon-not-owner` when the owner went while the question waited. */
export function stampOf(
  owner: Owner,
  asked?: Pick<OwnerRequest, 'tenant'> & { readonly startMs?: number },
): OwnerStamp {
  if (owner.isStopped) {
    throw new UnavailableError('err-carillon-not-owner', `partition ${owner.partition} went to its new owners`)
  }
  const damages = owner.damages.filter(({ state }) => state !== 'filled').map(describe)
  const aside = asked === undefined ? [] : owner.asideOf(asked.tenant)
  const lost = asked?.startMs === undefined ? [] : owner.lostFrom(asked.startMs)
  const texts = new Set([...aside, ...damages, ...lost])
  const warnings = [...texts].map((text) => `partition ${owner.partition}: ${text}`)
  return {
    incarnation: owner.incarnation,
    appliedSeq: owner.appliedSeq,
    firstSegment: owner.firstSegment,
    warnings: warnings.slice(0, WARNINGS_MAX),
  }
}

export async function* selectFrames(
  owner: Owner,
  strings: StringTable,
  asked: SelectRequest,
  signal: AbortSignal,
): AsyncIterable<SelectFrame> {
  let stamp: OwnerStamp | undefined = stampOf(owner, asked)
  const head = owner.state.heads.get(asked.tenant) ?? new Head(strings)
  const range = { startMs: asked.startMs, endMs: asked.endMs }
  const refs = head.select(asked.matchers, range)
  if (refs.length > asked.seriesMax) {
    const text = `the query selects ${refs.length} series in partition ${owner.partition}, more than ${asked.seriesMax}`
    throw new RefusedError('err-carillon-query-series', text, { status: 422 })
  }
  const builder = new FrameBuilder(head, strings, asked.mode, asked)
  const walk = new Walk(owner, strings, head, refs)
  try {
    walk.checkHeld(asked.watermark)
    for (let ref = walk.next(), i = 0; ref >= 0; ref = walk.next(), i++) {
      builder.add(ref, range)
      if (i % STRIDE === 0) signal.throwIfAborted()
      if (!builder.isFull) continue
      yield builder.take(stamp)
      stamp = undefined
      walk.checkHeld(asked.watermark)
    }
    yield builder.take(stamp)
  } finally {
    walk.close()
  }
}

/** The refs of series that match any of the selectors (all series when there is none), rising. */
function refsOf(head: Head, asked: SeriesRequest): Uint32Array {
  const range = { startMs: asked.startMs, endMs: asked.endMs }
  const selectors = asked.selectors.length > 0 ? asked.selectors : [[]]
  if (selectors.length === 1) return head.select(selectors[0]!, range)
  const refs = new Set<number>()
  for (const matchers of selectors) for (const ref of head.select(matchers, range)) refs.add(ref)
  return Uint32Array.from(refs).sort()
}

export async function* seriesFrames(
  owner: Owner,
  strings: StringTable,
  asked: SeriesRequest,
): AsyncIterable<SelectFrame> {
  let stamp: OwnerStamp | undefined = stampOf(owner, asked)
  const head = owner.state.heads.get(asked.tenant) ?? new Head(strings)
  const builder = new FrameBuilder(head, strings, 'labels')
  const refs = refsOf(head, asked)
  const walk = new Walk(owner, strings, head, asked.limit > 0 ? refs.slice(0, asked.limit) : refs)
  try {
    walk.checkHeld(asked.watermark)
    for (let ref = walk.next(); ref >= 0; ref = walk.next()) {
      builder.add(ref, ALL_TIME)
      if (!builder.isFull) continue
      yield builder.take(stamp)
      stamp = undefined
      walk.checkHeld(asked.watermark)
    }
    yield builder.take(stamp)
  } finally {
    walk.close()
  }
}

export function labelNamesOf(owner: Owner, asked: SeriesRequest): StringsReply {
  return stringsOf(owner, asked, (head, matchers) => head.labelNames(matchers, asked))
}

export function labelValuesOf(owner: Owner, asked: LabelValuesRequest): StringsReply {
  return stringsOf(owner, asked, (head, matchers) => head.labelValues(asked.name, matchers, asked))
}

function stringsOf(
  owner: Owner,
  asked: SeriesRequest,
  read: (head: Head, matchers: SeriesRequest['selectors'][number]) => string[],
): StringsReply {
  const stamp = stampOf(owner, asked)
  const head = owner.state.heads.get(asked.tenant)
  if (!head) return { stamp, values: [] }
  const selectors = asked.selectors.length > 0 ? asked.selectors : [[]]
  const lists = selectors.map((matchers) => read(head, matchers))
  const values = lists.length === 1 ? lists[0]! : [...new Set(lists.flat())].sort(compareBytes)
  return { stamp, values: asked.limit > 0 ? values.slice(0, asked.limit) : values }
}

export function metadataOf(owner: Owner, asked: MetadataRequest, isShown: IsShown): MetadataReply {
  const { tenant, metric, limit } = asked
  const rows = owner.state.metadata.of(tenant, metric === '' ? undefined : metric, isShown)
  return { stamp: stampOf(owner, asked), metadata: limit > 0 ? rows.slice(0, limit) : rows }
}

export function exemplarsOf(owner: Owner, asked: SeriesRequest, isShown: IsShown): ExemplarsReply {
  const stamp = stampOf(owner, asked)
  const head = owner.state.heads.get(asked.tenant)
  if (!head) return { stamp, series: [] }
  const range = { startMs: asked.startMs, endMs: asked.endMs }
  const selectors = asked.selectors.length > 0 ? asked.selectors : [[]]
  const refs = [...new Set(selectors.flatMap((matchers) => [...head.selectExemplars(matchers)]))].sort((a, b) => a - b)
  const rows = refs.map((ref) => ({ labels: head.labelsOf(ref), exemplars: head.exemplarsOf(ref, range, isShown) }))
  return { stamp, series: rows.filter(({ exemplars }) => exemplars.length > 0) }
}

export function headStatsOf(owner: Owner, asked: OwnerRequest): HeadStatsReply {
  const stamp = stampOf(owner, asked)
  const head = owner.state.heads.get(asked.tenant)
  if (!head) return { stamp, seriesCount: 0, chunkCount: 0 }
  return { stamp, seriesCount: head.seriesCount, ...head.chunkStats() }
}

/** Hashes of the series held, per owner and tenant, grown as series come: asked only when a tenant is at its limit. */
const hashes = new WeakMap<Head, { set: Set<number>; upTo: number; generation: number }>()

export function knownOf(owner: Owner, asked: KnownRequest): KnownReply {
  const head = owner.state.heads.get(asked.tenant)
  if (!head) return { known: new Uint8Array(asked.hashes.length) }
  const { generation } = head
  const before = hashes.get(head)
  const held = before?.generation === generation ? before : { set: new Set<number>(), upTo: 0, generation }
  hashes.set(head, held)
  for (; held.upTo < head.seriesCount; held.upTo++) {
    held.set.add(seriesHashOf(asked.tenant, head.labelsOf(held.upTo)))
  }
  return { known: Uint8Array.from(asked.hashes, (hash) => (held.set.has(hash) ? 1 : 0)) }
}
