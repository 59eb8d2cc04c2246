// What an administrator asks for: the next segment now, and the one before in blocks. The work itself is done by the clock, as ever.
import { type Clock, sleep } from '../../../shared/base/clock.ts'
import type { Blocks } from '../../../shared/blocks/port.ts'
import {
  FLUSH_WAIT_MS_MAX,
  type FlushedPartition,
  type FlushReply,
  type FlushRequest,
} from '../../../shared/contracts/flush.ts'
import type { Owner } from '../log/owner.ts'
import type { Asides } from './asides.ts'

export interface FlushNowDeps {
  readonly led: readonly Owner[]
  readonly blocks: Pick<Blocks, 'flushed'>
  readonly asides: Pick<Asides, 'named'>
  readonly clock: Clock
  readonly signal: AbortSignal
}

const STEP_MS = 50

export async function answerFlush(asked: FlushRequest, deps: FlushNowDeps): Promise<FlushReply> {
  const { led, clock, signal } = deps
  const untilMs = clock.monotonic() + Math.min(asked.waitMs, FLUSH_WAIT_MS_MAX)
  const wanted = led.map((owner) => wantedOf(owner, asked))
  for (;;) {
    const partitions = led.map((owner, i) => statusOf(owner, wanted[i]!, asked, deps))
    if (partitions.every(({ isDone }) => isDone) || clock.monotonic() >= untilMs) return { partitions }
    await sleep(clock, STEP_MS, signal)
  }
}

/** The segment to be closed, or flushed. One that holds nothing stays open, unless a mark was asked for. */
function wantedOf(owner: Owner, { kind }: FlushRequest): number {
  const { segment, segmentBytes } = owner.state
  const closes = kind === 'mark' || segmentBytes > 0
  if (closes) owner.wantsMark = true
  return closes ? segment : segment - 1
}

function statusOf(
  owner: Owner,
  wanted: number,
  { kind }: FlushRequest,
  { blocks, asides }: FlushNowDeps,
): FlushedPartition {
  const { partition } = owner
  const { segment } = owner.state
  const flushed = blocks.flushed(partition)
  const isDone = kind === 'mark' ? segment > wanted : flushed >= wanted
  return { partition, segment, flushed, isDone, aside: asides.named(partition) }
}
