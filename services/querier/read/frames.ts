// Takes in the frames of one owner: counts them against the query's budget, decodes them, remembers what the owner warned of.

import type { Breath } from '../../../shared/base/breathing.ts'
import type { SelectFrame } from '../../../shared/contracts/read.ts'
import type { Interval } from '../../../shared/model/interval.ts'
import type { Account } from '../limits/budget.ts'
import type { Answer } from './merge-series.ts'
import { memoryOf, OwnerAnswer, sizeOf } from './owner-answer.ts'

export interface Collected {
  readonly answer: Answer
  readonly warnings: readonly string[]
}

export interface CollectOptions {
  readonly range: Interval
  readonly isHashed: boolean
  readonly isProjected?: boolean
  readonly budget: Account
  readonly breath: Breath
  onFirst(): void
}

/** Of taking in a frame, in units of work: after each the time is looked at. */
const FRAME_WORK = 100_000

/** Rejects with what the frames reject with; then nothing was spent. */
export async function collect(frames: AsyncIterable<SelectFrame>, options: CollectOptions): Promise<Collected> {
  const { range, isHashed, isProjected = false, budget, breath } = options
  let heldBytes = 0
  const hold = (bytes: number) => {
    budget.hold(bytes)
    heldBytes += bytes
  }
  const answer = new OwnerAnswer(range, { isHashed, isProjected, hold })
  const warnings: string[] = []
  const spent = { series: 0, samples: 0, bytes: 0 }
  try {
    for await (const frame of frames) {
      options.onFirst()
      if (frame.stamp !== undefined) warnings.push(...frame.stamp.warnings)
      const size = sizeOf(frame)
      spent.series += size.series
      spent.samples += size.samples
      spent.bytes += size.bytes
      budget.spend(size)
      const { keptBytes, passingBytes } = memoryOf(frame)
      hold(keptBytes + passingBytes)
      answer.add(frame)
      budget.free(passingBytes)
      heldBytes -= passingBytes
      if (breath.isDue(FRAME_WORK)) await breath.breathe()
    }
  } catch (error) {
    budget.refund(spent)
    budget.free(heldBytes)
    throw error
  }
  return { answer, warnings }
}
