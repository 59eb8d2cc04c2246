// The SeriesSource of a querier: what PromQL selects, read from the owners of all partitions and from blocks.
import { askStream } from '../../shared/bus/ask.ts'
import type { Bus } from '../../shared/bus/port.ts'
import { select } from '../../shared/contracts/read.ts'
import type { SeriesSource } from '../../shared/promql/source.ts'
import { selectFrom } from './block-reading.ts'
import type { Account } from './budget.ts'
import { type Collected, collect } from './frames.ts'
import type { ReadScope } from './partition-reader.ts'
import { newestOnly } from './series-columns.ts'
import { sortedByHashes, unite } from './union.ts'
import type { View } from './views.ts'
import type { WholeReader } from './whole-reader.ts'

export interface WholeSourceDeps {
  readonly bus: Bus
  readonly reader: WholeReader
  readonly scope: ReadScope
  readonly budget: Account
  /** Told what is read from where. */
  readonly trace?: ReadTrace
  /** The bound on time does not hold. */
  readonly isOfAllTime?: boolean
}

/** From where a query was read. */
export class ReadTrace {
  /** Series that owners answered; those of attempts that came to nothing count as well. */
  ownerSeries = 0
  readonly views = new Set<View>()
}

/** A source for one query; what it reads is counted in `budget`. */
export function wholeSource({ bus, reader, scope, budget, trace, isOfAllTime }: WholeSourceDeps): SeriesSource {
  return {
    projects: true,
    async select(matchers, { startMs, endMs, mode, projection }, { signal, warn }) {
      const range = { startMs, endMs }
      if (!isOfAllTime) budget.checkRange(startMs, endMs)
      const names = projection?.names
      const selectScope = { ...scope, warn, signal: AbortSignal.any([scope.signal, signal]) }
      const answers = await reader.readAll<Collected>(selectScope, range, budget, {
        async owner(call, { account, sourceCount, view }) {
          const isHashed = sourceCount > 1 || projection?.isOrdered === true
          const request = {
            ...call.ask,
            matchers,
            startMs,
            endMs,
            mode,
            ...(names !== undefined && { names, wantsHashes: isHashed }),
            seriesMax: Math.max(0, account.seriesLeft),
          }
          const frames = askStream(bus, select, { id: call.owner }, request, call)
          const isProjected = names !== undefined
          const how = { range, isHashed, isProjected, budget: account, onFirst: call.onFirst }
          const collected = await collect(frames, how)
          trace?.views.add(view)
          if (trace !== undefined) trace.ownerSeries += collected.answer.series.length
          return collected
        },
        block: (call, reading) => selectFrom(call, { matchers, range, mode, names }, reading),
      })
      for (const text of new Set(answers.flatMap((each) => each.warnings))) warn(text)
      const united = unite(
        answers.map((each) => each.answer),
        (bytes) => budget.hold(bytes),
      )
      const series = projection?.isOrdered ? sortedByHashes(united) : united.series
      return mode === 'last' && answers.length > 1 ? series.map(newestOnly) : series
    },
  }
}
