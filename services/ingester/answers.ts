// What an owner answers: series, samples, names, values, metadata, exemplars of one partition and tenant.

import { RefusedError } from '../../shared/base/errors.ts'
import type {
  ExemplarsReply,
  KnownAsk,
  KnownReply,
  LabelValuesAsk,
  MetadataAsk,
  MetadataReply,
  OwnerStamp,
  SelectAsk,
  SelectFrame,
  SeriesAsk,
  StringsReply,
} from '../../shared/contracts/read.ts'
import { compareBytes } from '../../shared/model/labels.ts'
import { seriesHashOf } from '../../shared/ring/series-hash.ts'
import { Head } from '../../shared/tsdb/head/head.ts'
import type { StringTable } from '../../shared/tsdb/head/string-table.ts'
import { describe } from './damage.ts'
import { FrameBuilder } from './frames.ts'
import type { Owner } from './owner.ts'

export const ALL_TIME = { startMs: Number.NEGATIVE_INFINITY, endMs: Number.POSITIVE_INFINITY }
/** Series looked at between two looks at the signal. */
const STRIDE = 1024

export function stampOf(owner: Owner): OwnerStamp {
  const warnings = owner.damages
    .filter(({ state }) => state !== 'filled')
    .map((damage) => `partition ${owner.partition}: ${describe(damage)}`)
  return {
    incarnation: owner.incarnation,
    appliedSeq: owner.appliedSeq,
    firstSegment: owner.state.segments()[0] ?? owner.state.segment,
    warnings: warnings.slice(0, 10),
  }
}

export async function* selectFrames(
  owner: Owner,
  strings: StringTable,
  asked: SelectAsk,
  signal: AbortSignal,
): AsyncIterable<SelectFrame> {
  const head = owner.state.heads.get(asked.tenant) ?? new Head(strings)
  const range = { startMs: asked.startMs, endMs: asked.endMs }
  const refs = head.select(asked.matchers, range)
  if (refs.length > asked.seriesMax) {
    const text = `the query selects ${refs.length} series in partition ${owner.partition}, more than ${asked.seriesMax}`
    throw new RefusedError('err-carillon-max-series-per-query', text, { status: 422 })
  }
  const builder = new FrameBuilder(head, strings, asked.mode, asked)
  let stamp: OwnerStamp | undefined = stampOf(owner)
  for (let i = 0; i < refs.length; i++) {
    builder.add(refs[i]!, range)
    if (i % STRIDE === 0) signal.throwIfAborted()
    if (!builder.isFull) continue
    yield builder.take(stamp)
    stamp = undefined
  }
  yield builder.take(stamp)
}

/** The refs of series that match any of the selectors (all series when there is none), rising. */
function refsOf(head: Head, asked: SeriesAsk): Uint32Array {
  const range = { startMs: asked.startMs, endMs: asked.endMs }
  const selectors = asked.selectors.length > 0 ? asked.selectors : [[]]
  if (selectors.length === 1) return head.select(selectors[0]!, range)
  const refs = new Set<number>()
  for (const matchers of selectors) for (const ref of head.select(matchers, range)) refs.add(ref)
  return Uint32Array.from(refs).sort()
}

export async function* seriesFrames(owner: Owner, strings: StringTable, asked: SeriesAsk): AsyncIterable<SelectFrame> {
  const head = owner.state.heads.get(asked.tenant) ?? new Head(strings)
  const builder = new FrameBuilder(head, strings, 'labels')
  let stamp: OwnerStamp | undefined = stampOf(owner)
  const refs = refsOf(head, asked)
  const count = asked.limit > 0 ? Math.min(asked.limit, refs.length) : refs.length
  for (let i = 0; i < count; i++) {
    builder.add(refs[i]!, ALL_TIME)
    if (!builder.isFull) continue
    yield builder.take(stamp)
    stamp = undefined
  }
  yield builder.take(stamp)
}

export function labelNamesOf(owner: Owner, asked: SeriesAsk): StringsReply {
  return stringsOf(owner, asked, (head, matchers) => head.labelNames(matchers, asked))
}

export function labelValuesOf(owner: Owner, asked: LabelValuesAsk): StringsReply {
  return stringsOf(owner, asked, (head, matchers) => head.labelValues(asked.name, matchers, asked))
}

function stringsOf(
  owner: Owner,
  asked: SeriesAsk,
  read: (head: Head, matchers: SeriesAsk['selectors'][number]) => string[],
): StringsReply {
  const head = owner.state.heads.get(asked.tenant)
  if (!head) return { stamp: stampOf(owner), values: [] }
  const selectors = asked.selectors.length > 0 ? asked.selectors : [[]]
  const lists = selectors.map((matchers) => read(head, matchers))
  const values = lists.length === 1 ? lists[0]! : [...new Set(lists.flat())].sort(compareBytes)
  return { stamp: stampOf(owner), values: asked.limit > 0 ? values.slice(0, asked.limit) : values }
}

export function metadataOf(owner: Owner, asked: MetadataAsk): MetadataReply {
  const rows = owner.state.metadata.get(asked.tenant)
  if (!rows) return { stamp: stampOf(owner), metadata: [] }
  const wanted = asked.metric === '' ? [...rows.values()] : [rows.get(asked.metric)].filter((row) => row !== undefined)
  return { stamp: stampOf(owner), metadata: asked.limit > 0 ? wanted.slice(0, asked.limit) : wanted }
}

export function exemplarsOf(owner: Owner, asked: SeriesAsk): ExemplarsReply {
  const head = owner.state.heads.get(asked.tenant)
  if (!head) return { stamp: stampOf(owner), series: [] }
  const range = { startMs: asked.startMs, endMs: asked.endMs }
  const refs = refsOf(head, { ...asked, ...ALL_TIME })
  const rows = Array.from(refs, (ref) => ({ labels: head.labelsOf(ref), exemplars: head.exemplarsOf(ref, range) }))
  return { stamp: stampOf(owner), series: rows.filter(({ exemplars }) => exemplars.length > 0) }
}

/** Hashes of the series held, per owner and tenant, grown as series come: asked only when a tenant is at its limit. */
const hashes = new WeakMap<Head, { set: Set<number>; upTo: number }>()

export function knownOf(owner: Owner, asked: KnownAsk): KnownReply {
  const head = owner.state.heads.get(asked.tenant)
  if (!head) return { known: new Uint8Array(asked.hashes.length) }
  const held = hashes.get(head) ?? { set: new Set<number>(), upTo: 0 }
  hashes.set(head, held)
  for (; held.upTo < head.seriesCount; held.upTo++) {
    held.set.add(seriesHashOf(asked.tenant, head.labelsOf(held.upTo)))
  }
  return { known: Uint8Array.from(asked.hashes, (hash) => (held.set.has(hash) ? 1 : 0)) }
}
