// From the log into blocks with real processes: by hand, out of memory, through a kill -9 of everything, and read all the while.
import { spawnSync } from 'node:child_process'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import { eventually, WAIT_MS } from '../waiting.ts'
import { partitionsOf } from './check.ts'
import { pushUntilTaken, sample, valuesOf } from './client.ts'
import { afterwards, cleanUpAfterEach, isSkipped } from './fault-ground.ts'
import { natsFlags } from './nats-place.ts'
import { findNatsServer } from './nats-server.ts'
import { killEverything } from './processes.ts'
import { freePort, startSystem } from './system.ts'

cleanUpAfterEach()
const found = findNatsServer()
const ROOT = new URL('../..', import.meta.url).pathname

test.skipIf(isSkipped)(
  'what was flushed by hand leaves log and memory, and is read from blocks, also after everything was killed',
  async () => {
    const dataDir = mkdtempSync(join(tmpdir(), 'carillon-flush-'))
    afterwards(() => rmSync(dataDir, { recursive: true, force: true }))
    const env: Record<string, string> = 'path' in found ? { CARILLON_NATS_SERVER: found.path } : {}
    const args = ['--partitions=2', '--segment-min=1s', '--drop-after=1s', '--flush=200ms']
    const options = { dataDir, port: await freePort(), args, env }
    let system = await startSystem(options)
    afterwards(() => killEverything(system))
    const nowMs = Date.now()
    const series = Array.from({ length: 50 }, (_, i) => sample('stored', i, ['n', String(i)], nowMs - 1_000))
    const total = String((49 * 50) / 2)
    await pushUntilTaken(system.url, { series })
    const read = () => valuesOf(system.url, 'sum(stored)')
    expect(await read()).toEqual([total])

    const flush = spawnSync(process.execPath, ['services/carillon.mjs', 'flush', ...natsFlags(system.ready)], {
      cwd: ROOT,
      encoding: 'utf8',
    })
    expect(flush.stderr).toBe('')
    expect(flush.stdout).toMatch(/^partition 0 {2}\S+ {2}segment \d+ {2}flushed \d+ {2}done\npartition 1 .* done\n$/)
    expect(flush.status).toBe(0)
    const emptied = () =>
      eventually('memory is freed', WAIT_MS, async () => {
        const { partitions } = await partitionsOf(system.url)
        const isEmpty = partitions.every(({ owners }) => owners.every(({ sampleCount }) => sampleCount === 0))
        return isEmpty ? true : undefined
      })
    await emptied()
    expect(await read(), 'from blocks alone').toEqual([total])

    await killEverything(system)
    system = await startSystem(options)
    await emptied()
    expect(await read(), 'after everything was killed').toEqual([total])
    await pushUntilTaken(system.url, { series: [sample('stored', 5, ['n', '50'], Date.now())] })
    await eventually('blocks and memory in one answer', WAIT_MS, async () =>
      (await read())[0] === String(Number(total) + 5) ? true : undefined,
    )
    const again = await fetch(`${system.url}/api/v1/admin/flush?wait=20s`, { method: 'POST' })
    expect(await again.json()).toMatchObject({ status: 'success', data: { isDone: true, failures: [] } })
    expect(await read()).toEqual([String(Number(total) + 5)])
  },
)
