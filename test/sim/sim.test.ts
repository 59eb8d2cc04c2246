// The simulation as a test: thousands of histories, and the proof that it notices what it is there to notice.
import { afterAll, describe, expect, test } from 'vitest'
import { type AskedMany, Workers } from './many.ts'

const HISTORIES = 600
const WORKERS = 2
/** Histories that are run without a part of the protocols, until one fails. */
const COUNTER_PROOFS = 200
/** Histories that are run again with right clocks. */
const CLOCK_PROOFS = 40
/** Where something is measured by wall clocks, they may matter. */
const MEASURED = ['compaction', 'uploads', 'deletions']
const HANG_MS = 1_200_000

const workers = new Workers(WORKERS)
const run = (count: number, asked: AskedMany = {}, stopsAtFirst = false) =>
  workers.run({ first: 1, count, asked, stopsAtFirst })

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
      atLeast('takeovers', 0.1)
      atLeast('merged blocks', 0.1)
      atLeast('deletions', 0.1)
      atLeast('undone', 0.01)
      atLeast('uploads', 0.05)
      atLeast('damages', 0.05)
      atLeast('released', 0.01)
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

  test.each([
    ['ack-rule'],
    ['define-until-stored'],
    ['idempotence'],
    ['election-bound', 'pair'],
    ['flush-order'],
    ['replay-bound'],
    ['append', 'deletions'],
    ['all-placed', 'deletions'],
    ['same-id', 'deletions,undo'],
    ['overtakes', 'deletions,nameless,deletion-pauses'],
    ['placing-joins', 'deletions'],
    ['compare', 'deletions'],
    ['drained', 'deletions'],
    ['merge-same', 'deletions'],
    ['fresh', 'deletions,watch,stale-gets'],
  ])(
    'without %s the simulation fails',
    async (part, always = '') => {
      const asked = { without: [part], always: always.split(',').filter((name) => name !== '') }
      const { failures } = await run(COUNTER_PROOFS, asked, true)
      expect(failures.length, `of ${COUNTER_PROOFS} histories without ${part}`).toBeGreaterThan(0)
    },
    HANG_MS,
  )
})
