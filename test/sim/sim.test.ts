// The simulation as a test: thousands of histories, and the proof that it notices what it is there to notice.
import { describe, expect, test } from 'vitest'
import { World } from './world.ts'

const HISTORIES = 2000
const GROUPS = 4
/** Histories that are run without a part of the protocol, until one fails. */
const COUNTER_PROOFS = 200
/** Histories that are run again with right clocks. */
const CLOCK_PROOFS = 40

async function failures(first: number, count: number, without: ReadonlySet<string> = new Set()) {
  const failed: string[] = []
  let acknowledged = 0
  let late = 0
  let purged = 0
  let takeovers = 0
  for (let seed = first; seed < first + count; seed++) {
    const result = await new World({ seed, without }).run()
    acknowledged += result.acknowledgedCount
    late += result.lateCount
    purged += result.purgedCount
    takeovers += result.takeoverCount
    if (result.faults.length > 0) failed.push(`npm run sim -- --seed ${seed}: ${result.faults[0]}`)
  }
  return { failed, acknowledged, late, purged, takeovers }
}

describe('simulation', () => {
  const size = HISTORIES / GROUPS
  for (let group = 0; group < GROUPS; group++) {
    const first = 1 + group * size
    test(`L1-L16, L22: seeds ${first} to ${first + size - 1}: blocks and owners hold every acknowledged sample once and agree`, async () => {
      const { failed, acknowledged, late, purged, takeovers } = await failures(first, size)
      expect(failed).toEqual([])
      expect(acknowledged).toBeGreaterThan(10 * size)
      expect(purged, 'messages purged after a flush').toBeGreaterThan(10 * size)
      expect(late, 'batches that came too late and were written again').toBeGreaterThan(0)
      expect(takeovers).toBeGreaterThan(size / 4)
    }, 600_000)
  }

  test('clocks that are up to five minutes wrong change nothing at all', async () => {
    for (let seed = 1; seed <= CLOCK_PROOFS; seed++) {
      const wrong = await new World({ seed }).run()
      const right = await new World({ seed, hasRightClocks: true }).run()
      expect(wrong, `npm run sim -- --seed ${seed}`).toEqual(right)
      expect(wrong.digests.length).toBeGreaterThan(1)
    }
  })

  test.each(['ack-rule', 'define-until-stored', 'idempotence', 'election-bound', 'flush-order', 'replay-bound'])(
    'without %s the simulation fails',
    async (part) => {
      for (let seed = 1; seed <= COUNTER_PROOFS; seed++) {
        const { failed } = await failures(seed, 1, new Set([part]))
        if (failed.length > 0) return
      }
      expect.unreachable(`${COUNTER_PROOFS} histories without ${part} show nothing`)
    },
  )
})
