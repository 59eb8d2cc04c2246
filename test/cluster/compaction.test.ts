// Merging blocks with real processes: by order, with two compactors of which one is killed, and read all the while.
import { spawnSync } from 'node:child_process'
import { expect, test } from 'vitest'
import { eventually } from '../waiting.ts'
import { pushUntilTaken, sample, valuesOf } from './client.ts'
import { afterwards, cleanUpAfterEach, isSkipped } from './fault-ground.ts'
import { natsFlags } from './nats-place.ts'
import { findNatsServer } from './nats-server.ts'
import { killOne } from './processes.ts'
import { startSystem } from './system.ts'

cleanUpAfterEach()
const found = findNatsServer()
const ROOT = new URL('../..', import.meta.url).pathname
const ROUNDS = 6

interface Status {
  readonly compactors: readonly {
    readonly id: string
    readonly tenants: readonly { blocks: number; retired: number }[]
    readonly history: readonly {
      why: string
      outcome: string
      sources: string[]
      samplesIn: number
      duplicates: number
    }[]
    readonly aside: readonly object[]
  }[]
}

test.skipIf(isSkipped)(
  'blocks are merged while they are read, also when a compactor dies; what was replaced is deleted',
  async () => {
    const env: Record<string, string> = 'path' in found ? { CARILLON_NATS_SERVER: found.path } : {}
    const flushing = ['--partitions=2', '--segment-min=500ms', '--drop-after=500ms', '--flush=200ms']
    const compacting = ['--compactors=2', '--compact-every=500ms', '--lease=2s', '--retired-delay=2s']
    const system = await startSystem({ args: [...flushing, ...compacting], env })
    afterwards(() => system.stop())
    const post = (path: string) => fetch(`${system.url}${path}`, { method: 'POST' })
    const startMs = Math.floor(Date.now() / 7_200_000) * 7_200_000
    for (let round = 0; round < ROUNDS; round++) {
      const series = Array.from({ length: 20 }, (_, i) =>
        sample('kept', round, ['n', String(i)], startMs + round * 1_000),
      )
      await pushUntilTaken(system.url, { series })
      const flush = (await (await post('/api/v1/admin/flush?wait=20s')).json()) as { data: { isDone: boolean } }
      expect(flush.data.isDone).toBe(true)
    }
    const read = () => valuesOf(system.url, `sum(sum_over_time(kept[10m] @ ${startMs / 1_000 + 60}))`)
    const total = [String(20 * ((ROUNDS * (ROUNDS - 1)) / 2))]
    expect(await read()).toEqual(total)

    const wrong: string[][] = []
    let reads = 0
    let isOver = false
    const reading = (async () => {
      while (!isOver) {
        const values = await read()
        reads++
        if (values[0] !== total[0]) wrong.push(values)
      }
    })()
    const first = post('/api/v1/admin/compact')
    killOne(system, 'compactor-1')
    first.catch(() => {}) // asked of the one that was killed, it ends after its minute
    const status = await eventually('the blocks are one, and what they were made of is gone', 60_000, async () => {
      // An order that met the one that was killed waits for its minute: it is given up, and given again.
      const order = { method: 'POST', signal: AbortSignal.timeout(5_000) }
      await fetch(`${system.url}/api/v1/admin/compact`, order).catch(() => {})
      const { data } = (await (await fetch(`${system.url}/api/v1/status/compaction`)).json()) as { data: Status }
      const [tenant] = data.compactors.flatMap(({ tenants }) => tenants)
      return tenant?.blocks === 1 && tenant.retired === 0 ? data : undefined
    })
    isOver = true
    await reading
    expect(wrong).toEqual([])
    expect(reads).toBeGreaterThan(5)
    expect(status.compactors.flatMap(({ aside }) => aside)).toEqual([])
    const shown = spawnSync(
      process.execPath,
      ['services/carillon.mjs', 'compact', '--status', ...natsFlags(system.ready), '--output=json'],
      { cwd: ROOT, encoding: 'utf8' },
    )
    const history = (JSON.parse(shown.stdout) as Status).compactors.flatMap((each) => each.history)
    expect(history.some(({ why, outcome }) => why === 'small' && outcome === 'done')).toBe(true)
  },
)
