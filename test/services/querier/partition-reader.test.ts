// A querier that was cut off does not know yet what it missed: it waits for its next heartbeat, and says so when none comes.
import { expect, test } from 'vitest'
import { createPartitionReader, type ReadScope } from '../../../services/querier/partition-reader.ts'
import { systemClock } from '../../../shared/base/clock.ts'

const BACK_AFTER_MS = 300
const WAIT_MS = 600

function readWhen(isConfirmed: () => boolean, signal = new AbortController().signal): Promise<string[]> {
  const reader = createPartitionReader({
    clock: systemClock,
    membership: { isConfirmed, readableCount: () => 2, readers: () => ['ingester-1'], holders: () => ['ingester-1'] },
    ...{ hedgeAfterMs: 60_000, ownerTimeoutMs: 60_000, partitionAsksMax: 2 },
    onHedge: () => {},
    onOwnerFailure: () => {},
  })
  const untilMs = systemClock.monotonic() + WAIT_MS
  const scope: ReadScope = {
    ...{ tenant: 'acme', requestId: undefined, places: [], allowsPartial: true, warn: () => {} },
    ...{ signal, deadlineMs: untilMs, waitUntilMs: untilMs },
  }
  return reader.readAll(scope, async ({ ask, owner }) => `${owner} ${ask.partition}`)
}

test('a view that is confirmed meanwhile is waited for, then all partitions are asked', async () => {
  const startMs = systemClock.monotonic()
  const answers = await readWhen(() => systemClock.monotonic() - startMs >= BACK_AFTER_MS)
  expect(systemClock.monotonic() - startMs).toBeGreaterThanOrEqual(BACK_AFTER_MS)
  expect(answers).toEqual(['ingester-1 0', 'ingester-1 1'])
})

test('Q4: one that stays unconfirmed is an error, also for who takes a part of the answer', async () => {
  await expect(readWhen(() => false)).rejects.toMatchObject({ code: 'err-carillon-ring-unconfirmed' })
})

test('who goes away meanwhile does not wait', async () => {
  const startMs = systemClock.monotonic()
  const reason = new Error('gone')
  await expect(readWhen(() => false, AbortSignal.abort(reason))).rejects.toBe(reason)
  expect(systemClock.monotonic() - startMs).toBeLessThan(BACK_AFTER_MS)
})
