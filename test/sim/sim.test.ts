// The simulation as a test: as many histories as two cores run in some six minutes (by hand: npm run sim -- --runs 50000), and the proof that it
// notices what it is there to notice.
import { afterAll, describe, expect, test } from 'vitest'
import { type AskedMany, Workers } from './many.ts'

const HISTORIES = 3000
const WORKERS = 2
/** Histories that are run without a part of the protocols, until one fails. */
const COUNTER_PROOFS = 200
/** Histories that are run again with right clocks. */
const CLOCK_PROOFS = 40
/** Where something is measured by wall clocks, they may matter. */
const MEASURED = ['compaction', 'uploads', 'deletions']
const HANG_MS = 1_200_000

const workers = new Workers(WORKERS)
const run = (count: number, asked: AskedMany = {}) => workers.run({ first: 1, count, asked })

afterAll(() => workers.end())

describe('simulation', () => {
  test(
    `${HISTORIES} histories: strong reads show what was acknowledged and nothing that was deleted, and all that was begun ends`,
    async () => {
      const { failures, counts } = await run(HISTORIES)
      expect(failures.map(({ repeat, faults }) => `${repeat}: ${faults[0]}`)).toEqual([])
      const atLeast = (name: string, perHistory: number) =>
        expect(counts[name], name).toBeGreaterThan(perHistory * HISTORIES)
      atLeast('samples acknowledged', 50)
      atLeast('reads', 3)
      atLeast('messages purged', 5)
      atLeast('late batches', 0.1)
      atLeast('takeovers', 0.05)
      atLeast('merged blocks', 0.1)
      atLeast('deletions', 0.1)
      atLeast('undone', 0.01)
      atLeast('uploads', 0.05)
      atLeast('damages', 0.1)
      atLeast('released', 0.05)
      atLeast('checked for memory', 0.1)
    },
    HANG_MS,
  )

  test(
    'clocks that are up to five minutes wrong change nothing at all where nothing is measured by them',
    async () => {
      const wrong = await run(CLOCK_PROOFS, { no: MEASURED })
      const right = await run(CLOCK_PROOFS, { no: MEASURED, hasRightClocks: true })
      expect([...wrong.digests].sort()).toEqual([...right.digests].sort())
      expect(wrong.counts).toEqual(right.counts)
      expect(wrong.failures).toEqual([])
    },
    HANG_MS,
  )

  test.each<{ part: string; always?: string[]; from?: number }>([
    { part: 'ack-rule' },
    { part: 'define-until-stored', from: 25 },
    { part: 'idempotence' },
    { part: 'election-bound', always: ['pair'], from: 60 },
    { part: 'flush-order' },
    { part: 'replay-bound', from: 15 },
    { part: 'append', always: ['deletions'] },
    { part: 'all-placed', always: ['deletions'] },
    { part: 'lost-end', always: ['deletions', 'deletion-damage', 'cut-tail', 'cut-far'], from: 30 },
    { part: 'same-id', always: ['deletions', 'undo'] },
    { part: 'placing-joins', always: ['deletions'], from: 10 },
    { part: 'compare', always: ['deletions'] },
    { part: 'drained', always: ['deletions'] },
    { part: 'merge-same', always: ['deletions'] },
    { part: 'memory', always: ['scaling'] },
  ])(
    'without $part the simulation fails, and with it the same history does not',
    async ({ part, always = [], from = 1 }) => {
      const asked = { without: [part], always }
      const { failures } = await workers.run({ first: from, count: COUNTER_PROOFS, asked, stopsAtFirst: true })
      const [failure] = failures
      expect(failure, `of ${COUNTER_PROOFS} histories without ${part}`).toBeDefined()
      const whole = await workers.run({ first: failure!.seed, count: 1, asked: { always } })
      expect(whole.failures).toEqual([])
    },
    HANG_MS,
  )
})
