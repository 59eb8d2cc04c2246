// What blocks answer to the questions that owners are asked: batches are counted against the query's budget as they come.
import type { Matcher } from '../../shared/model/matcher.ts'
import type { BlockSeries } from '../../shared/tsdb/block/series.ts'
import { BlockAnswer } from './block-answer.ts'
import type { Collected } from './frames.ts'
import type { HiddenParts } from './hidden.ts'
import type { Interval } from './series-columns.ts'
import type { BlockCall, Reading } from './whole-reader.ts'

export interface BlockSelect {
  readonly matchers: readonly Matcher[]
  readonly range: Interval
  readonly mode: 'all' | 'last'
  readonly names?: readonly string[] | undefined
}

const NO_WARNINGS: readonly string[] = []

/** The samples of one block. */
export async function selectFrom(call: BlockCall, asked: BlockSelect, reading: Reading): Promise<Collected> {
  const { block, hidden, signal } = call
  const { matchers, range, mode, names } = asked
  const answer = new BlockAnswer({ range, mode, hidden, names })
  let seriesCount = 0
  for await (const batch of block.reader.select(matchers, range, { signal })) {
    seriesCount += batch.length
    spend(reading, seriesCount, batch)
    for (const series of batch) answer.add(series)
    await call.breathe()
  }
  return { answer, warnings: NO_WARNINGS }
}

/** The label sets of one block with samples in the range, at most `limit` of each selector. */
export async function seriesFrom(
  call: BlockCall,
  asked: { selectors: readonly (readonly Matcher[])[]; range: Interval; limit: number },
  reading: Reading,
): Promise<Collected> {
  const { block, hidden, signal } = call
  const answer = new BlockAnswer({ range: asked.range, mode: 'all', hidden })
  const seen = new Set<number>()
  for (const matchers of asked.selectors) {
    let count = 0
    for await (const batch of block.reader.series(matchers, asked.range, { signal })) {
      for (const series of batch) {
        if (seen.has(series.ref) || isAllHidden(series, hidden, asked.range)) continue
        seen.add(series.ref)
        answer.addBare(series)
        count++
      }
      spend(reading, seen.size, [])
      await call.breathe()
      if (count >= asked.limit) break
    }
  }
  return { answer, warnings: NO_WARNINGS }
}

/** Names or values of one block, of all selectors (of everything where there is none). */
export async function stringsFrom(
  call: BlockCall,
  selectors: readonly (readonly Matcher[])[],
  read: (matchers: readonly Matcher[]) => Promise<readonly string[]>,
): Promise<readonly string[]> {
  const lists: (readonly string[])[] = []
  for (const matchers of selectors.length > 0 ? selectors : [[]]) {
    lists.push(await read(matchers))
    await call.breathe()
  }
  return lists.length === 1 ? lists[0]! : [...new Set(lists.flat())]
}

/** A delete that covers the whole range hides the series itself. */
function isAllHidden(series: Pick<BlockSeries, 'labels' | 'ref'>, hidden: HiddenParts, range: Interval): boolean {
  const intervals = hidden.of(series)
  return intervals.some(({ startMs, endMs }) => startMs <= range.startMs && endMs >= range.endMs)
}

/** Series count once for all blocks of a read, as far as they may be the same: by the block that has most. */
function spend({ account, blockSeries }: Reading, seriesCount: number, batch: readonly BlockSeries[]): void {
  let samples = 0
  let blockBytes = 0
  for (const { chunks } of batch) {
    for (const { count, bytes } of chunks) {
      samples += count
      blockBytes += bytes.length
    }
  }
  const series = Math.max(0, seriesCount - blockSeries.peak)
  blockSeries.peak += series
  account.spend({ series, samples, bytes: 0, blockBytes })
}
