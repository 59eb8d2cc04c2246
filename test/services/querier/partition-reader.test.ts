// A querier that was cut off does not know yet what it missed: it waits for its next heartbeat, and says so when none comes.

import { expect, test } from 'vitest'
import {
  createPartitionReader,
  type PartitionReaderDeps,
  type ReadScope,
} from '../../../services/querier/read/partition-reader.ts'
import { UNHURRIED } from '../../../shared/base/breathing.ts'
import { systemClock } from '../../../shared/base/clock.ts'

const BACK_AFTER_MS = 300
const WAIT_MS = 600

function readerOf(membership: Partial<PartitionReaderDeps['membership']>) {
  return createPartitionReader({
    clock: systemClock,
    membership: {
      ...{ isConfirmed: () => true, readableCount: () => 2 },
      ...{ readers: () => ['ingester-1'], holders: () => ['ingester-1'] },
      ...membership,
    },
    ...{ hedgeAfterMs: 60_000, ownerTimeoutMs: 60_000, partitionAsksMax: 2 },
    onHedge: () => {},
    onOwnerFailure: () => {},
  })
}

function readWhen(isConfirmed: () => boolean, signal = new AbortController().signal): Promise<string[]> {
  const reader = readerOf({ isConfirmed })
  const untilMs = systemClock.monotonic() + WAIT_MS
  const scope: ReadScope = {
    ...{ tenant: 'acme', requestId: undefined, places: [], allowsPartial: true, warn: () => {} },
    ...{ signal, breath: UNHURRIED, deadlineMs: untilMs, waitUntilMs: untilMs },
  }
  return reader.readAll(scope, async ({ ask, owner }) => `${owner} ${ask.partition}`)
}

test('a view that is confirmed meanwhile is waited for, then all partitions are asked', async () => {
  const startMs = systemClock.monotonic()
  const answers = await readWhen(() => systemClock.monotonic() - startMs >= BACK_AFTER_MS)
  expect(systemClock.monotonic() - startMs).toBeGreaterThanOrEqual(BACK_AFTER_MS)
  expect(answers).toEqual(['ingester-1 0', 'ingester-1 1'])
})

test('QUERY-4: one that stays unconfirmed is an error, also for who takes a part of the answer', async () => {
  await expect(readWhen(() => false)).rejects.toMatchObject({ code: 'err-carillon-ring-unconfirmed' })
})

test('who goes away meanwhile does not wait', async () => {
  const startMs = systemClock.monotonic()
  const reason = new Error('gone')
  await expect(readWhen(() => false, AbortSignal.abort(reason))).rejects.toBe(reason)
  expect(systemClock.monotonic() - startMs).toBeLessThan(BACK_AFTER_MS)
})

test('what would refuse every query is told to whoever asks whether this querier is ready', () => {
  expect(readerOf({}).lacks()).toEqual([])
  expect(readerOf({ isConfirmed: () => false }).lacks()).toEqual([expect.stringContaining('its own heartbeat')])
  expect(readerOf({ readableCount: () => 0 }).lacks()).toEqual(['the number of partitions is not known yet'])
  const holders = (partition: number) => (partition === 0 ? ['ingester-1'] : [])
  expect(readerOf({ holders }).lacks()).toEqual(['nobody holds 1 of 2 partitions: 1'])
})
