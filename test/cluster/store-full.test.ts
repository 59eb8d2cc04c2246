// The object store is full: flushes wait, the log keeps what is not in blocks, writes go on until the log is full as well, and all of it
// recovers when there is room again.
import { expect, test } from 'vitest'
import { eventually, WAIT_MS } from '../waiting.ts'
import { partitionsOf } from './check.ts'
import { ask, pushWrite, sample } from './client.ts'
import { cleanUpAfterEach, isSkipped, startOn, startServer } from './fault-ground.ts'
import { killEverything } from './processes.ts'
import type { System } from './system.ts'

cleanUpAfterEach()
const SERIES = 500
const args = [
  '--partitions=1',
  '--segment=2s',
  '--segment-min=500ms',
  '--flush=200ms',
  '--drop-after=500ms',
  '--compact-every=1h',
]
const small = ['--log-bytes-max=3MiB', '--objects-bytes-max=200KiB']

test.skipIf(isSkipped)(
  'a full object store: nothing is lost, the log is not purged, writes end with the log, and all goes on when there is room',
  async () => {
    const server = await startServer()
    let system = await startOn(server, [...args, ...small])
    const pushed = { acknowledged: 0, attempted: 0, last: '' }
    await eventually('a flush fails', WAIT_MS, async () => {
      for (let i = 0; i < 20; i++) await push(system, pushed)
      return (await metric(system, 'carillon_flush_failures_total')) > 0 || undefined
    })
    const atFull = pushed.acknowledged
    const waiting = await flushedOf(system)
    await eventually('the log is full, too', 60_000, async () => {
      for (let i = 0; i < 20; i++) await push(system, pushed)
      return pushed.last.includes('err-carillon-log-full') || undefined
    })
    console.log(`store full after ${atFull} samples, log full after ${pushed.acknowledged}`)
    expect(pushed.acknowledged, 'writes went on').toBeGreaterThan(atFull)
    expect(await flushedOf(system), 'the segment waits').toBeLessThanOrEqual(waiting + 1)
    await readsAll(system, pushed)

    await killEverything(system)
    system = await startOn(server, [...args, '--log-bytes-max=3MiB'])
    await eventually('the flush catches up', WAIT_MS, async () =>
      (await flushedOf(system)) > waiting + 1 ? true : undefined,
    )
    await eventually('writes go on', WAIT_MS, async () => {
      const before = pushed.acknowledged
      await push(system, pushed)
      return pushed.acknowledged > before || undefined
    })
    await readsAll(system, pushed)
  },
)

interface Pushed {
  acknowledged: number
  attempted: number
  last: string
}

async function push(system: System, pushed: Pushed): Promise<void> {
  const time = Date.now()
  const series = Array.from({ length: SERIES }, (_, i) => sample('full', Math.random(), ['n', String(i)], time))
  const { status, text } = await pushWrite(system.url, { series })
  pushed.attempted += SERIES
  if (status === 204) pushed.acknowledged += SERIES
  pushed.last = text
}

/** What is stored beyond the acknowledged can only be what was attempted. */
async function readsAll(system: System, { acknowledged, attempted }: Pushed): Promise<void> {
  const found = await eventually('an answer', WAIT_MS, async () => {
    const query = { query: 'sum(count_over_time(full[1h]))' }
    const { status, body } = await ask(system.url, '/api/v1/query', query, { consistency: 'strong' })
    return status === 200 ? Number(body.data.result[0]?.value[1]) : undefined
  })
  expect(found).toBeGreaterThanOrEqual(acknowledged)
  expect(found).toBeLessThanOrEqual(attempted)
}

async function flushedOf(system: System): Promise<number> {
  const { partitions } = await partitionsOf(system.url)
  return (partitions[0]?.owners[0] as { flushed?: number } | undefined)?.flushed ?? 0
}

async function metric(system: System, name: string): Promise<number> {
  const text = await (await fetch(`${system.url}/metrics`)).text()
  const lines = text.split('\n').filter((line) => line.startsWith(`${name}{`))
  return lines.reduce((sum, line) => sum + Number(line.slice(line.lastIndexOf(' ') + 1)), 0)
}
