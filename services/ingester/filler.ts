// Filling: an owner that misses part of a segment takes the whole segment from another owner's memory. Applying is idempotent, so
// what both hold changes nothing.
import { textOf } from '../../shared/base/errors.ts'
import { askStream } from '../../shared/bus/ask.ts'
import type { Bus } from '../../shared/bus/port.ts'
import { type FillFrame, fill, type SelectFrame } from '../../shared/contracts/read.ts'
import type { Log } from '../../shared/telemetry/log.ts'
import { HistogramChunkReader } from '../../shared/tsdb/chunk/histogram.ts'
import { decodeXor, ENCODING_XOR } from '../../shared/tsdb/chunk/xor.ts'
import type { StringTable } from '../../shared/tsdb/head/string-table.ts'
import { type Damage, describe } from './damage.ts'
import type { Owner } from './owner.ts'
import type { OwnerMetrics } from './owner-metrics.ts'

export interface FillDeps {
  readonly bus: Bus
  readonly log: Log
  readonly metrics: OwnerMetrics
  readonly strings: StringTable
  /** The other owners of the partition that are alive. */
  readonly others: readonly string[]
}

/** Asks the other owners for the segments of all open damage; what none of them has whole stays `missing`. */
export async function fillDamage(owner: Owner, deps: FillDeps): Promise<void> {
  const open = owner.damages.filter((damage) => damage.state === 'open')
  for (const segment of new Set(open.map((damage) => damage.segment))) {
    const outcome = (await fillSegment(owner, segment, deps)) ? 'filled' : 'missing'
    for (const damage of open.filter((other) => other.segment === segment)) settle(damage, outcome, owner, deps)
  }
}

function settle(damage: Damage, outcome: 'filled' | 'missing', owner: Owner, { metrics, log }: FillDeps): void {
  damage.state = outcome
  metrics.fills.with({ outcome }).inc()
  const facts = { partition: owner.partition }
  if (outcome === 'filled') log.info(facts, `damage filled: ${describe(damage)}`)
  else log.error(facts, `no other owner could fill: ${describe(damage)}`)
}

/** True when one of the others has the segment without damage of its own. */
async function fillSegment(owner: Owner, segment: number, deps: FillDeps): Promise<boolean> {
  let isWhole = false
  for (const other of deps.others) {
    try {
      const request = { partition: owner.partition, incarnation: owner.incarnation, segment }
      for await (const frame of askStream(deps.bus, fill, { id: other }, request, {})) {
        if (frame.stamp && frame.stamp.warnings.length === 0) isWhole = true
        applyFill(owner, segment, frame, deps.strings)
      }
    } catch (error) {
      isWhole = false
      deps.log.warn({ partition: owner.partition, other, reason: textOf(error) }, 'another owner could not fill')
    }
    if (isWhole) return true
  }
  return false
}

function applyFill(owner: Owner, segment: number, { tenant, frame }: FillFrame, strings: StringTable): void {
  const head = owner.state.head(tenant)
  const numbers = tableOf(owner, tenant, frame, strings)
  let label = 0
  let chunk = 0
  for (let i = 0; i < frame.labelCounts.length; i++) {
    const end = label + 2 * frame.labelCounts[i]!
    const ref = head.series(Array.from(frame.labels.subarray(label, end), (number) => numbers[number]!))
    label = end
    for (let left = frame.chunkCounts?.[i] ?? 0; left > 0; left--)
      applyChunk({ owner, tenant, ref, segment }, frame, chunk++)
  }
}

const tables = new WeakMap<Owner, Map<string, number[]>>()

/** String numbers of one answer, which go on from frame to frame; the first frame of a tenant starts afresh. */
function tableOf(owner: Owner, tenant: string, frame: SelectFrame, strings: StringTable): number[] {
  const perTenant = tables.get(owner) ?? new Map<string, number[]>()
  tables.set(owner, perTenant)
  const numbers = frame.stamp ? [] : (perTenant.get(tenant) ?? [])
  perTenant.set(tenant, numbers)
  let start = 0
  for (const end of frame.stringEnds) {
    numbers.push(strings.intern(Buffer.from(frame.strings.subarray(start, end)).toString()))
    start = end
  }
  return numbers
}

function applyChunk(
  at: { owner: Owner; tenant: string; ref: number; segment: number },
  frame: SelectFrame,
  chunk: number,
): void {
  const head = at.owner.state.head(at.tenant)
  const start = chunk === 0 ? 0 : frame.chunkEnds![chunk - 1]!
  const end = frame.chunkEnds![chunk]!
  const count = frame.chunkSamples![chunk]!
  if (frame.chunkEncodings![chunk] === ENCODING_XOR) {
    const times = new Float64Array(count)
    const values = new Float64Array(count)
    decodeXor(frame.chunks!, start, end, times, values, 0)
    for (let i = 0; i < count; i++) head.appendFloat(at.ref, at.segment, times[i]!, values, i)
    return
  }
  const reader = new HistogramChunkReader(frame.chunkEncodings![chunk]!, frame.chunks!, start, end)
  while (reader.next()) head.appendHistogram(at.ref, at.segment, reader.time, reader.histogram())
}
