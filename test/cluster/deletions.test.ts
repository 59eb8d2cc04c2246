// Deletions with real processes, while partitions are added: what was acknowledged before one was asked for is gone, what is written after its
// answer stays, in memory and in blocks, before and after its samples were removed.
import { expect, test } from 'vitest'
import { eventually } from '../waiting.ts'
import { pushUntilTaken, sample, valuesOf } from './client.ts'
import { afterwards, cleanUpAfterEach, isSkipped } from './fault-ground.ts'
import { natsFlags } from './nats-place.ts'
import { carillon } from './ring.ts'
import { startSystem } from './system.ts'

cleanUpAfterEach()

const COUNT = 24
const SERIES = 60
const WAIT_MS = 60_000

interface Listed {
  readonly id: string
  readonly state: string
}

test.skipIf(isSkipped)(
  'DELETE-1 to DELETE-3: deletions around added partitions take what was written before, and nothing that is written after',
  async () => {
    const flushing = ['--segment=2s', '--segment-min=1s', '--drop-after=1s', '--flush=200ms']
    const compacting = ['--delete-undo=1s', '--compact-every=500ms', '--log-bytes-max=100MiB']
    const system = await startSystem({ args: ['--partitions=1', ...flushing, ...compacting] })
    afterwards(() => system.stop())
    const { url } = system
    const write = (name: string, value: number) => {
      const time = Date.now()
      const series = Array.from({ length: SERIES }, (_, n) => sample(name, value, ['n', String(n)], time))
      return pushUntilTaken(url, { series })
    }
    const admin = (path: string, method = 'POST') => fetch(`${url}/api/v1/admin/tsdb/${path}`, { method })
    const names = Array.from({ length: COUNT }, (_, i) => `del_${i}`)
    for (const name of names) await write(name, 1)

    const adding = carillon(['partitions', 'add', '5', ...natsFlags(system.ready)])
    /** How each ask ended, the last of each name: pending ones are asked again, by the same id. */
    const asking = names.map(async (name, i) => {
      await new Promise((resolve) => setTimeout(resolve, i * 150))
      return eventually(`the deletion of ${name}`, WAIT_MS, async () => {
        const { status } = await admin(`delete_series?match[]=${name}&id=${name.replace('_', '')}`)
        expect([204, 503]).toContain(status)
        return status === 204 || undefined
      })
    })
    await Promise.all(asking)
    expect((await adding).code).toBe(0)
    for (const name of names) expect(await valuesOf(url, `count(last_over_time(${name}[1h]))`), name).toEqual([])

    for (const name of names) await write(name, 2)
    const whole = async (when: string) => {
      for (const name of names)
        expect(await valuesOf(url, `count(last_over_time(${name}[1h]) == 2)`), `${name}, ${when}`).toEqual([
          `${SERIES}`,
        ])
    }
    await whole('at once')
    const states = async () => {
      const { data } = (await (await admin('deletions', 'GET')).json()) as { data: { deletions: readonly Listed[] } }
      return data.deletions.map(({ state }) => state)
    }
    await eventually('all of it is removed', WAIT_MS, async () => {
      const all = await states()
      return (all.length === COUNT && all.every((state) => state === 'removed')) || undefined
    })
    await whole('when it is removed')
    const flushed = await fetch(`${url}/api/v1/admin/flush?wait=20s`, { method: 'POST' })
    expect(((await flushed.json()) as { data: { isDone: boolean } }).data.isDone).toBe(true)
    await whole('in blocks')
    for (const name of names)
      expect(await valuesOf(url, `sum(count_over_time(${name}[1h]))`), 'nothing of before is left').toEqual([
        `${SERIES}`,
      ])
  },
)
