// How long the event loop of this thread stands still: by the processor time that the thread takes from one turn to the next, so that other
// processes on the machine do not count. What collecting garbage takes is told apart: it comes when it comes, whoever works then.
import { PerformanceObserver } from 'node:perf_hooks'

export interface LoopWatch {
  /** Of work between two turns, the most, ms. */
  end(): number
}

interface Turn {
  readonly startMs: number
  readonly endMs: number
  readonly workMs: number
}

const TURNS_KEPT = 32

export function watchLoop(): LoopWatch {
  let isOver = false
  let longest: Turn[] = []
  const collections: { readonly startMs: number; readonly endMs: number }[] = []
  const note = (entries: readonly { startTime: number; duration: number }[]) => {
    for (const { startTime, duration } of entries) collections.push({ startMs: startTime, endMs: startTime + duration })
  }
  const observer = new PerformanceObserver((list) => note(list.getEntries()))
  observer.observe({ entryTypes: ['gc'] })
  let beforeMs = performance.now()
  let beforeWorkMs = threadMs()
  const look = () => {
    const turn = { startMs: beforeMs, endMs: performance.now(), workMs: threadMs() - beforeWorkMs }
    beforeMs = turn.endMs
    beforeWorkMs += turn.workMs
    if (turn.workMs < 1) return
    longest.push(turn)
    if (longest.length > 4 * TURNS_KEPT) longest = longest.sort((a, b) => b.workMs - a.workMs).slice(0, TURNS_KEPT)
  }
  const onTurn = () => {
    look()
    if (!isOver) setImmediate(onTurn)
  }
  setImmediate(onTurn)
  return {
    end() {
      isOver = true
      look()
      note(observer.takeRecords())
      observer.disconnect()
      const collectedIn = ({ startMs, endMs }: Turn) =>
        collections.reduce((sum, gc) => sum + Math.max(0, Math.min(endMs, gc.endMs) - Math.max(startMs, gc.startMs)), 0)
      return Math.max(0, ...longest.map((turn) => turn.workMs - collectedIn(turn)))
    },
  }
}

function threadMs(): number {
  const { user, system } = process.threadCpuUsage()
  return (user + system) / 1000
}
