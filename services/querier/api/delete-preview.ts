// What a deletion would hide: how many series and samples there are now, in owners and blocks, counted as a query would see them.
import type { Bus } from '../../../shared/bus/port.ts'
import { labelsKey } from '../../../shared/model/labels.ts'
import { wholeSource } from '../read/series-source.ts'
import type { WholeReader } from '../read/tenant-reader.ts'
import { type SelectorBounds, seriesParams } from './params.ts'
import type { AnswerKind } from './query-kind.ts'

export interface DeletePreviewDeps {
  readonly bus: Bus
  readonly reader: WholeReader
  readonly bounds: SelectorBounds
}

/** Of a series, in units of work. */
const SERIES_WORK = 500

/** Data: {"series":…,"samples":…}. Refused like any query that reads too much. */
export function deletePreview({ bus, reader, bounds }: DeletePreviewDeps): AnswerKind {
  return async ({ params, budget, breath, run }) => {
    const { selectors, startMs, endMs } = await seriesParams(params, bounds, breath)
    return run(undefined, async (scope) => {
      const source = wholeSource({ bus, reader, scope, budget, isOfAllTime: true })
      const seen = new Set<string>()
      let sampleCount = 0
      for (const matchers of selectors) {
        for (const { labels, times } of await source.select(matchers, { startMs, endMs, mode: 'all' }, scope)) {
          const key = labelsKey(labels)
          if (!seen.has(key)) sampleCount += times.length // several selectors may take one series
          seen.add(key)
          if (scope.breath.isDue(SERIES_WORK)) await scope.breath.breathe()
        }
      }
      return { data: [JSON.stringify({ series: seen.size, samples: sampleCount })] }
    })
  }
}
