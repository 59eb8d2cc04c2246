// A short chaos run: a few of the mishaps, one of each kind, in the same order every time.
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import { isSkipped, seed } from '../cluster/fault-ground.ts'
import { runChaos } from './run-chaos.ts'

/** Half a minute; on a machine that is busier, as long as they take. Without `flip`, until a deletion's place outlives a log that lost its end. */
const hand = ['kill-ingester', 'add', 'join', 'junk', 'kill-nats', 'leave', 'kill-all']
const MINUTES_MAX = 3

test.skipIf(isSkipped)(
  'chaos: acknowledged samples are all there, deleted ones are gone, everything is flushed, nothing runs on',
  async () => {
    const folder = mkdtempSync(join(tmpdir(), 'carillon-chaos-'))
    const options = { minutes: MINUTES_MAX, seed, servers: 1, without: [], hand, folder, say: () => {} } as const
    const { isRight, faults, counts, text } = await runChaos(options)
    console.log(`SEED=${seed}\n${text}`)
    expect(faults, `what shows it is kept in ${folder}`).toEqual([])
    expect(isRight).toBe(true)
    for (const name of hand) expect(counts[`mishap ${name}`], name).toBe(1)
    expect(counts['pushes']).toBeGreaterThan(30)
    expect(counts['reads']).toBeGreaterThan(10)
    expect(counts['deletions that ended']).toBeGreaterThan(0)
    expect(counts['orphan processes']).toBe(0)
    rmSync(folder, { recursive: true, force: true })
  },
  600_000,
)
