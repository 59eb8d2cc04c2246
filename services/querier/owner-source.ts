// The SeriesSource of a querier: what PromQL selects, read from the owners of all partitions.
import { askStream } from '../../shared/bus/ask.ts'
import type { Bus } from '../../shared/bus/port.ts'
import { select } from '../../shared/contracts/read.ts'
import type { SeriesSource } from '../../shared/promql/source.ts'
import type { Budget } from './budget.ts'
import { collect } from './frames.ts'
import type { PartitionReader, ReadScope } from './partition-reader.ts'
import { newestOnly, sortedByHashes, unite } from './union.ts'

export interface OwnerSourceDeps {
  readonly bus: Bus
  readonly reader: PartitionReader
  readonly scope: ReadScope
  readonly budget: Budget
}

/** A source for one query; what it reads is counted in `budget`. */
export function ownerSource({ bus, reader, scope, budget }: OwnerSourceDeps): SeriesSource {
  return {
    projects: true,
    async select(matchers, { startMs, endMs, mode, projection }, { signal, warn }) {
      const isSplit = reader.partitionCount() > 1
      const isProjected = projection !== undefined
      const isHashed = isSplit || projection?.isOrdered === true
      const labelsAsked = isProjected ? { names: projection.names, wantsHashes: isHashed } : {}
      const selectScope = { ...scope, warn, signal: AbortSignal.any([scope.signal, signal]) }
      const answers = await reader.readAll(selectScope, (call) => {
        const request = {
          ...call.ask,
          matchers,
          startMs,
          endMs,
          mode,
          ...labelsAsked,
          seriesMax: Math.max(0, budget.seriesLeft),
        }
        const frames = askStream(bus, select, { id: call.owner }, request, call)
        return collect(frames, { range: { startMs, endMs }, isHashed, isProjected, budget, onFirst: call.onFirst })
      })
      for (const text of new Set(answers.flatMap((each) => each.warnings))) warn(text)
      const united = unite(answers.map((each) => each.answer))
      const series = projection?.isOrdered ? sortedByHashes(united) : united.series
      return mode === 'last' && isSplit ? series.map(newestOnly) : series
    },
  }
}
