// What blocks answer to the questions that owners are asked: batches are counted against the query's budget as they come.

import type { Interval } from '../../../shared/model/interval.ts'
import type { Labels } from '../../../shared/model/labels.ts'
import type { Matcher } from '../../../shared/model/matcher.ts'
import type { BlockSeriesLabels, ReadSeries } from '../../../shared/tsdb/block/series.ts'
import type { Deletion } from '../../../shared/tsdb/delete-filter.ts'
import { BlockAnswer } from './block-answer.ts'
import type { Collected } from './frames.ts'
import type { BlockCall, Reading } from './tenant-reader.ts'

export interface BlockSelect {
  readonly matchers: readonly Matcher[]
  readonly range: Interval
  readonly mode: 'all' | 'last'
  readonly names?: readonly string[] | undefined
}

/** Of looking at a series or a text that was found, in units of work. */
const SERIES_WORK = 500
const TEXT_WORK = 100

const NO_WARNINGS: readonly string[] = []

/** The samples of one block. */
export async function selectFrom(call: BlockCall, asked: BlockSelect, reading: Reading): Promise<Collected> {
  const { block, hidden, signal, breath } = call
  const { matchers, range, mode, names } = asked
  const { account } = reading
  const hold = (bytes: number) => account.hold(bytes)
  const answer = new BlockAnswer({ range, mode, hidden, names, hold })
  let seriesCount = 0
  for await (const batch of block.reader.select(matchers, range, { signal, breath })) {
    seriesCount += batch.length
    const passingBytes = spend(reading, seriesCount, batch)
    account.hold(passingBytes + batch.reduce((sum, { labels }) => sum + setBytes(labels), 0))
    for (const series of batch) await answer.add(series, breath)
    account.free(passingBytes)
  }
  return { answer, warnings: NO_WARNINGS }
}

/** The label sets of one block with samples in the range, at most `limit` of each selector. */
export async function seriesFrom(
  call: BlockCall,
  asked: { selectors: readonly (readonly Matcher[])[]; range: Interval; limit: number },
  reading: Reading,
): Promise<Collected> {
  const { block, hidden, signal, breath } = call
  const answer = new BlockAnswer({ range: asked.range, mode: 'all', hidden })
  const seen = new Set<number>()
  for (const matchers of asked.selectors) {
    let count = 0
    for await (const batch of block.reader.series(matchers, asked.range, { signal, breath })) {
      for (const series of batch) {
        if (seen.has(series.ref) || isAllHidden(series, call, asked.range)) continue
        seen.add(series.ref)
        reading.account.hold(setBytes(series.labels))
        answer.addBare(series)
        count++
        if (breath.isDue(SERIES_WORK)) await breath.breathe()
      }
      spend(reading, seen.size, [])
      if (count >= asked.limit) break
    }
  }
  return { answer, warnings: NO_WARNINGS }
}

/** Names or values of one block, of all selectors (of everything where there is none). */
export async function stringsFrom(
  call: BlockCall,
  asked: Deletion,
  name: string | undefined,
): Promise<readonly string[]> {
  const { block, hidden, signal, breath } = call
  const found = new Set<string>()
  for (const matchers of asked.selectors.length > 0 ? asked.selectors : [[]]) {
    if (hidden.isEmpty) {
      const { reader } = block
      const listed =
        name === undefined
          ? await reader.labelNames(matchers, asked, { signal, breath })
          : await reader.labelValues(name, matchers, asked, { signal, breath })
      for (const text of listed) {
        found.add(text)
        if (breath.isDue(TEXT_WORK)) await breath.breathe()
      }
    } else await addShown(call, matchers, asked, name, found)
  }
  return [...found]
}

/** Series by series, because not all of them are to be seen. */
async function addShown(
  call: BlockCall,
  matchers: readonly Matcher[],
  range: Interval,
  name: string | undefined,
  found: Set<string>,
): Promise<void> {
  for await (const batch of call.block.reader.series(matchers, range, call)) {
    for (const series of batch) {
      if (isAllHidden(series, call, range)) continue
      const { labels } = series
      for (let i = 0; i < labels.length; i += 2) {
        if (name === undefined) found.add(labels[i]!)
        else if (labels[i] === name) found.add(labels[i + 1]!)
      }
      if (call.breath.isDue(SERIES_WORK)) await call.breath.breathe()
    }
  }
}

/** One deletion that covers all of the block's times that were asked for hides the series itself. */
function isAllHidden(series: BlockSeriesLabels, { block, hidden }: BlockCall, range: Interval): boolean {
  if (hidden.isEmpty) return false
  const { minTime, maxTime } = block.reader.meta
  const fromMs = Math.max(range.startMs, minTime)
  const toMs = Math.min(range.endMs, maxTime - 1)
  return hidden.of(series).some(({ startMs, endMs }) => startMs <= fromMs && endMs >= toMs)
}

/** A label set, whose strings mostly stand in others as well, and its series. */
function setBytes(labels: Labels): number {
  return 200 + 12 * labels.length
}

/** Series count once for all blocks of a read, as far as they may be the same: by the block that has most. Answers the bytes of chunks. */
function spend({ account, blockSeries }: Reading, seriesCount: number, batch: readonly ReadSeries[]): number {
  let samples = 0
  let blockBytes = 0
  for (const { chunks } of batch) {
    for (const { count, start, end } of chunks) {
      samples += count
      blockBytes += end - start
    }
  }
  const series = Math.max(0, seriesCount - blockSeries.peak)
  blockSeries.peak += series
  account.spend({ series, samples, bytes: 0, blockBytes })
  return blockBytes
}
