// The SeriesSource of a querier: what PromQL selects, read from the owners of all partitions and from blocks.
import { askStream } from '../../../shared/bus/ask.ts'
import type { Bus } from '../../../shared/bus/port.ts'
import type { Aggregate } from '../../../shared/contracts/blocks.ts'
import { select } from '../../../shared/contracts/read.ts'
import type { SeriesSource, WindowsWanted } from '../../../shared/promql/source.ts'
import type { Account } from '../limits/budget.ts'
import { uniteWindows, type WindowAnswers, withSpans } from '../windows/window-series.ts'
import { aggregateOf, besideOf, type Picked, pickBlocks, reachOf } from '../windows/windows.ts'
import { selectFrom } from './block-reading.ts'
import { type Collected, collect } from './frames.ts'
import { sortedByHashes, unite } from './merge-series.ts'
import type { ReadScope } from './partition-reader.ts'
import { newestOnly } from './series-columns.ts'
import type { View } from './snapshots.ts'
import type { WholeReader } from './tenant-reader.ts'

export interface WholeSourceDeps {
  readonly bus: Bus
  readonly reader: WholeReader
  readonly scope: ReadScope
  readonly budget: Account
  /** Told what is read from where. */
  readonly trace?: ReadTrace
  /** The bound on time does not hold. */
  readonly isOfAllTime?: boolean
  /** How windows are chosen; absent: samples are read. */
  readonly windowFor?: SeriesSource['windowFor'] | undefined
}

/** From where a query was read. */
export class ReadTrace {
  /** Series that owners answered; those of attempts that came to nothing count as well. */
  ownerSeries = 0
  readonly views = new Set<View>()
}

/** A source for one query; what it reads is counted in `budget`. */
export function wholeSource({
  bus,
  reader,
  scope,
  budget,
  trace,
  isOfAllTime,
  windowFor,
}: WholeSourceDeps): SeriesSource {
  return {
    projects: true,
    ...(windowFor !== undefined && { windowFor }),
    async select(matchers, { startMs, endMs, mode, projection, windows }, { signal, warn }) {
      const range = { startMs, endMs }
      if (!isOfAllTime) budget.checkRange(startMs, endMs)
      const names = projection?.names
      const selectScope = { ...scope, warn, signal: AbortSignal.any([scope.signal, signal]) }
      let picked: Picked | undefined
      const answers = await reader.readAll<Part>(selectScope, range, budget, {
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
          const { breath } = scope
          const how = { range, isHashed, isProjected, budget: account, breath, onFirst: call.onFirst }
          const collected = await collect(frames, how)
          trace?.views.add(view)
          if (trace !== undefined) trace.ownerSeries += collected.answer.series.length
          return collected
        },
        async block(call, reading) {
          const { resolutionMs, aggregate } = call.entry
          const reach = windows === undefined ? range : reachOf(range, windows.use, resolutionMs)
          const collected = await selectFrom(call, { matchers, range: reach, mode, names }, reading)
          return aggregate === undefined ? collected : { ...collected, aggregate }
        },
        ...(windows !== undefined && {
          pick(view: View, fromOwners: readonly Part[]) {
            const held = fromOwners.map(({ answer }) => answer)
            picked = pickBlocks(view, range, windows, held)
            return picked.entries
          },
        }),
      })
      for (const text of new Set(answers.flatMap((each) => each.warnings))) warn(text)
      for (const text of picked?.warnings ?? []) warn(text)
      const hold = (bytes: number) => budget.hold(bytes)
      const united =
        windows === undefined || picked === undefined
          ? await unite(
              answers.map((each) => each.answer),
              scope.breath,
              hold,
            )
          : await uniteWindows(sorted(answers, windows.use), windows.use, picked.spans, scope.breath, hold)
      const series = projection?.isOrdered ? await sortedByHashes(united, scope.breath) : united.series
      const all = mode === 'last' && answers.length > 1 ? series.map(newestOnly) : series
      return windows?.use === 'last' && picked !== undefined ? withSpans(all, picked.spans) : all
    },
  }
}

/** What one owner or block answered; of windows, which of their values. */
interface Part extends Collected {
  readonly aggregate?: Aggregate
}

function sorted(answers: readonly Part[], use: WindowsWanted['use']): WindowAnswers {
  const where = (isWanted: (aggregate: Aggregate | undefined) => boolean) =>
    answers.filter(({ aggregate }) => isWanted(aggregate)).map(({ answer }) => answer)
  return {
    main: where((aggregate) => aggregate === undefined || aggregate === aggregateOf(use)),
    beside: where((aggregate) => aggregate !== undefined && aggregate === besideOf(use)),
  }
}
