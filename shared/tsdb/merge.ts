// Merging sorted runs of samples into one: by time, and at equal times the greater of the total order stays (LOG-11).
import { compareValueBits } from '../model/sample.ts'
import { wordsOf } from './chunk/xor.ts'
import type { SampleColumns, SampleRun } from './columns.ts'
import { compareHistograms } from './histogram-order.ts'

/** Samples that are copied one by one faster than in one piece. */
const SHORT = 24

interface Cursor {
  readonly run: SampleRun
  readonly words: Uint32Array
  at: number
}

/** Appends the merge of `runs` to `sink`. Every run rises strictly in time; runs may overlap and repeat each other. */
export function mergeRuns(runs: readonly SampleRun[], sink: SampleColumns): void {
  const open: Cursor[] = []
  for (const run of runs) if (run.start < run.end) open.push({ run, words: wordsOf(run.values), at: run.start })
  while (open.length > 0) {
    const first = earliest(open)
    const { run } = first
    const limit = earliestBeside(open, first)
    if (timeAt(first) < limit) {
      let to = first.at + 1 // a stretch that no other run touches goes over in one piece
      while (to < run.end && run.times[to]! < limit) to++
      if (to - first.at < SHORT) for (let i = first.at; i < to; i++) sink.pushFrom(run, first.words, i)
      else sink.pushRange(run, first.at, to)
      first.at = to
    } else {
      pushGreatest(open, limit, sink)
    }
    for (let i = open.length - 1; i >= 0; i--) if (open[i]!.at >= open[i]!.run.end) open.splice(i, 1)
  }
}

function timeAt(cursor: Cursor): number {
  return cursor.run.times[cursor.at]!
}

function earliest(cursors: readonly Cursor[]): Cursor {
  let best = cursors[0]!
  for (let i = 1; i < cursors.length; i++) if (timeAt(cursors[i]!) < timeAt(best)) best = cursors[i]!
  return best
}

/** The earliest time of any other cursor. */
function earliestBeside(cursors: readonly Cursor[], except: Cursor): number {
  let time = Number.POSITIVE_INFINITY
  for (let i = 0; i < cursors.length; i++) {
    const cursor = cursors[i]!
    if (cursor !== except && timeAt(cursor) < time) time = timeAt(cursor)
  }
  return time
}

function pushGreatest(cursors: readonly Cursor[], time: number, sink: SampleColumns): void {
  let best: Cursor | undefined
  for (const cursor of cursors) {
    if (timeAt(cursor) === time && (best === undefined || compareAt(cursor, best) > 0)) best = cursor
  }
  sink.pushFrom(best!.run, best!.words, best!.at)
  for (const cursor of cursors) if (timeAt(cursor) === time) cursor.at++
}

/** Positive when the sample at cursor `a` is the greater (LOG-11). */
function compareAt(a: Cursor, b: Cursor): number {
  const histogramA = a.run.histograms?.[a.at]
  const histogramB = b.run.histograms?.[b.at]
  if (histogramA !== undefined) {
    return histogramB === undefined ? 1 : compareHistograms(histogramA, histogramB) || startAt(a) - startAt(b)
  }
  if (histogramB !== undefined) return -1
  const order = compareValueBits(a.words[2 * a.at + 1]!, a.words[2 * a.at]!, b.words[2 * b.at + 1]!, b.words[2 * b.at]!)
  return order || startAt(a) - startAt(b)
}

/** Of two samples that are alike else, the one with the later start time is the greater; unknown is 0. */
function startAt({ run, at }: Cursor): number {
  return run.startTimes === undefined ? 0 : run.startTimes[at]!
}
