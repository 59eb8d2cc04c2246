// Row 19, short: the writer and checker of `npm run soak` for half a minute, with segments of seconds.
import { expect, test } from 'vitest'
import { seededRandom } from '../../shared/base/random.ts'
import { afterwards, cleanUpAfterEach, isSkipped, seed } from '../cluster/fault-ground.ts'
import { findNatsServer } from '../cluster/nats-server.ts'
import { startSystem } from '../cluster/system.ts'
import { runSoak } from './run-soak.ts'

cleanUpAfterEach()
const found = findNatsServer()

interface Status {
  readonly data: { readonly compactors: readonly { history: { why: string; outcome: string }[] }[] }
}

test.skipIf(isSkipped)(
  'row 19: every check is equal while segments are flushed, merged, purged and dropped',
  async () => {
    const env: Record<string, string> = 'path' in found ? { CARILLON_NATS_SERVER: found.path } : {}
    const system = await startSystem({
      args: [
        ...['--partitions=2', '--segment=3s', '--segment-min=1s', '--drop-after=1s', '--flush=200ms'],
        ...['--compact-every=2s', '--compact-delay=0s', '--retired-delay=2s', '--sweep-every=5s'],
      ],
      env,
    })
    afterwards(() => system.stop())
    const random = seededRandom(seed)
    const { counts, text, isRight } = await runSoak(system, {
      ...{ minutes: 0.4, seriesCount: 400, intervalMs: 1_000, checkPauseMs: 50 },
      random: () => random.next(),
      say: () => {},
    })
    console.log(text)
    expect(counts.failures).toEqual([])
    expect(isRight).toBe(true)
    expect(counts.valuesCompared).toBeGreaterThan(1_000)
    expect(counts.unanswered).toBeLessThan(5)
    const status = (await (await fetch(`${system.url}/api/v1/status/compaction`)).json()) as Status
    const merged = status.data.compactors.flatMap(({ history }) => history)
    expect(merged.some(({ outcome }) => outcome === 'done')).toBe(true)
  },
  100_000,
)
