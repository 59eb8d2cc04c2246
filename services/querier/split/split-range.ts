// A range query in parts: each is evaluated by any querier, or was before; together they are the answer, bit by bit.
//
// Invariants
//   QUERY-12  With parts kept or not, split or not, the answer is the same, with the same warnings.
import type { Clock } from '../../../shared/base/clock.ts'
import { UnavailableError } from '../../../shared/base/errors.ts'
import { ask, askStream } from '../../../shared/bus/ask.ts'
import type { Bus } from '../../../shared/bus/port.ts'
import { type QueryPartReply, type QueryPartRequest, queryPart } from '../../../shared/contracts/query-part.ts'
import { series } from '../../../shared/contracts/read.ts'
import type { Membership } from '../../../shared/membership/membership.ts'
import type { Interval } from '../../../shared/model/interval.ts'
import { encodeTenant } from '../../../shared/model/tenant.ts'
import type { QueryResult } from '../../../shared/promql/engine.ts'
import { type Budget, Share } from '../limits/budget.ts'
import { collect } from '../read/frames.ts'
import type { ReadScope } from '../read/partition-reader.ts'
import type { View } from '../read/snapshots.ts'
import type { WholeReader } from '../read/tenant-reader.ts'
import { type PartCache, partKey, stateOf } from './part-cache.ts'
import { sizeOfPart, united } from './part-result.ts'
import type { Part, Split } from './split-plan.ts'

export interface SplitRangeDeps {
  readonly bus: Bus
  readonly clock: Clock
  readonly membership: Pick<Membership, 'live'>
  readonly reader: WholeReader
  readonly cache: PartCache
  readonly partsAtOnceMax: number
  /** In this process. */
  readonly evaluate: (asked: QueryPartRequest, scope: ReadScope, whole: Budget) => Promise<QueryPartReply>
  onPart(from: 'cache' | 'evaluation'): void
}

export interface RangeAsked {
  readonly query: string
  readonly startMs: number
  readonly endMs: number
  readonly stepMs: number
  readonly lookbackMs: number
  readonly split: Split
  /** False: nothing is looked up, and nothing kept. */
  readonly mayKeep: boolean
  readonly windowMaxMs: number | undefined
  readonly countsSamples: boolean
}

/** What is newer than this may still change, whoever holds it. */
const NEWEST_MS = 60_000
const GRACE_MS = 1_000

export type AnswerInParts = (asked: RangeAsked, scope: ReadScope, budget: Budget) => Promise<QueryResult>

export function splitRange(deps: SplitRangeDeps): AnswerInParts {
  const { bus, clock, membership, reader, cache, partsAtOnceMax } = deps

  return async (asked, scope, budget) => {
    const { parts } = asked.split
    const known = asked.mayKeep ? await lookUp(asked, scope) : new Map<Part, QueryPartReply>()
    const replies: QueryPartReply[] = new Array(parts.length)
    const ended = new AbortController() // the failure of one part ends the others
    const within = { ...scope, signal: AbortSignal.any([scope.signal, ended.signal]) }
    let next = 0
    let seriesPeak = 0 // the series of one part are mostly those of the others
    const worker = async () => {
      while (next < parts.length) {
        const at = next++
        const part = parts[at]!
        const reply = known.get(part) ?? (await evaluated(asked, part, within, budget))
        deps.onPart(known.has(part) ? 'cache' : 'evaluation')
        const fresh = Math.max(0, reply.read.series - seriesPeak)
        seriesPeak += fresh
        budget.hold(2 * (await sizeOfPart(reply, scope.breath))) // with its copy in the answer
        budget.spend({ ...reply.read, series: fresh }) // also of what was kept: a limit does not depend on it
        replies[at] = reply
      }
    }
    try {
      await Promise.all(Array.from({ length: Math.min(partsAtOnceMax, parts.length) }, worker))
    } finally {
      ended.abort()
    }
    const { stepMs } = asked
    return united(
      parts.map((part, i) => ({ steps: { ...part, stepMs }, reply: replies[i]! })),
      asked.query,
      scope.breath,
    )
  }

  /** By this process where it is the only one, else by whichever is free; once more when that one went away. */
  async function evaluated(asked: RangeAsked, part: Part, scope: ReadScope, whole: Budget): Promise<QueryPartReply> {
    const { query, startMs, endMs, stepMs, lookbackMs, windowMaxMs, countsSamples } = asked
    const question: QueryPartRequest = {
      ...{ query, startMs, endMs, stepMs, lookbackMs },
      partStartMs: part.startMs,
      partEndMs: part.endMs,
      places: Array.from(scope.places, (place) => place ?? null),
      allowsPartial: scope.allowsPartial,
      ...(windowMaxMs !== undefined && { windowMaxMs }),
      ...(countsSamples && { countsSamples }),
    }
    const reply = await (membership.live('querier').length > 1
      ? elsewhere(question, scope)
      : deps.evaluate(question, scope, whole))
    if (asked.mayKeep && reply.state !== '' && reply.warnings.length === 0 && isOld(part.reach)) {
      cache.set(keyOf(asked, scope, part, reply.state), query, reply, await sizeOfPart(reply, scope.breath))
    }
    return reply
  }

  async function elsewhere(question: QueryPartRequest, { tenant, ...scope }: ReadScope): Promise<QueryPartReply> {
    for (let attempt = 1; ; attempt++) {
      const timeoutMs = Math.max(1, scope.deadlineMs - clock.monotonic()) + GRACE_MS
      const { requestId, signal } = scope
      try {
        return await ask(bus, queryPart, { tenant: encodeTenant(tenant) }, question, { timeoutMs, requestId, signal })
      } catch (error) {
        const isGone = error instanceof UnavailableError && error.code.startsWith('bus-')
        if (!isGone || attempt === 2 || signal.aborted) throw error
      }
    }
  }

  /** The parts that were kept, if nothing of them is in any owner's memory by now (QUERY-11). */
  async function lookUp(asked: RangeAsked, scope: ReadScope): Promise<Map<Part, QueryPartReply>> {
    const { split, query } = asked
    const old = split.parts.filter(({ reach }) => isOld(reach))
    const foundBy = (view: View) => {
      const found = new Map<Part, QueryPartReply>()
      for (const part of old) {
        const reply = cache.get(keyOf(asked, scope, part, stateOf(view, part.reach)), query)
        if (reply !== undefined) found.set(part, reply)
      }
      return found
    }
    if (cache.count === 0 || old.length === 0) return new Map()
    const first = foundBy(await reader.view(scope))
    if (first.size === 0) return first
    const reach = {
      startMs: Math.min(...[...first.keys()].map((part) => part.reach.startMs)),
      endMs: Math.max(...[...first.keys()].map((part) => part.reach.endMs)),
    }
    const { isHeld, view, warnings } = await heldByOwners(split, reach, scope)
    if (isHeld || view === undefined) return new Map()
    for (const text of warnings) scope.warn(text) // what is missing by now was not when the part was kept
    return new Map([...foundBy(view)].filter(([part]) => first.has(part)))
  }

  /** Whether any owner has a series of the query with samples in the range, and what owners warn of. */
  async function heldByOwners(
    { selectors }: Split,
    range: Interval,
    scope: ReadScope,
  ): Promise<{ isHeld: boolean; view: View | undefined; warnings: readonly string[] }> {
    const answers = await reader.readAll(scope, range, new Share(unlimited), {
      async owner(call, { account, view }) {
        const request = { ...call.ask, selectors, ...range, limit: 1 }
        const frames = askStream(bus, series, { id: call.owner }, request, call)
        const { breath } = scope
        const how = { range, isHashed: false, budget: account, breath, onFirst: call.onFirst }
        const { answer, warnings } = await collect(frames, how)
        return { isHeld: answer.series.length > 0, view, warnings }
      },
    })
    const isWhole = answers.length === reader.partitionCount() // with partial_response some may be missing
    const warnings = answers.flatMap((each) => each.warnings)
    return { isHeld: !isWhole || answers.some(({ isHeld }) => isHeld), view: answers[0]?.view, warnings }
  }

  function isOld({ endMs }: Interval): boolean {
    return endMs < clock.now() - NEWEST_MS
  }
}

function keyOf({ split, ...asked }: RangeAsked, { tenant }: ReadScope, part: Part, state: string): string {
  const windows = asked.windowMaxMs === undefined ? '' : `${asked.windowMaxMs} `
  const counts = !asked.countsSamples ? '' : part.startMs === asked.startMs ? 'counts of the first ' : 'counts '
  return partKey(tenant, `${counts}${windows}${split.identity}`, part, state)
}

const unlimited = {
  seriesLeft: Number.MAX_SAFE_INTEGER,
  spend() {},
  refund() {},
  checkRange() {},
  hold() {},
  free() {},
}
