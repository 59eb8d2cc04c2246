// Takes in the frames of one owner: counts them against the query's budget, decodes them, remembers what the owner warned of.

import type { SelectFrame } from '../../shared/contracts/read.ts'
import type { Interval } from '../../shared/tsdb/delete-filter.ts'
import type { Account } from './budget.ts'
import { OwnerAnswer, sizeOf } from './owner-answer.ts'
import type { Answer } from './union.ts'

export interface Collected {
  readonly answer: Answer
  readonly warnings: readonly string[]
}

export interface CollectOptions {
  readonly range: Interval
  readonly isHashed: boolean
  readonly isProjected?: boolean
  readonly budget: Account
  onFirst(): void
}

/** Rejects with what the frames reject with; then nothing was spent. */
export async function collect(frames: AsyncIterable<SelectFrame>, options: CollectOptions): Promise<Collected> {
  const { range, isHashed, isProjected = false, budget } = options
  const answer = new OwnerAnswer(range, { isHashed, isProjected })
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
      answer.add(frame)
    }
  } catch (error) {
    budget.refund(spent)
    throw error
  }
  return { answer, warnings }
}
