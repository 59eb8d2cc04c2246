// Where strong reads learn the ends of logs from (LOG-20): on a memory bus, whose server can be made to tell an old end.
import { describe, expect, test } from 'vitest'
import { createLogEnds } from '../../../services/querier/read/log-ends.ts'
import { systemClock } from '../../../shared/base/clock.ts'
import { UnavailableError } from '../../../shared/base/errors.ts'
import { seededRandom } from '../../../shared/base/random.ts'
import { createMemoryHub } from '../../../shared/bus/memory/memory-bus.ts'
import type { LogStore } from '../../../shared/bus/port.ts'
import { batchSubject, logConfig, logName } from '../../../shared/contracts/log.ts'

const WAYS_MS = { minMs: 1, maxMs: 1 }

async function ground({ bytesMax = 1 << 20 } = {}) {
  const hub = createMemoryHub({ clock: systemClock, random: seededRandom(3), faults: { delayMs: WAYS_MS } })
  const { logs } = hub.connect('querier')
  await logs.ensure(logConfig(0, { bytesMax, replicas: 1 }))
  const write = async (size = 10) =>
    (await logs.append(logName(0), batchSubject(0), new Uint8Array(size), { timeoutMs: 1_000 })).seq
  const open = (changes: Partial<LogStore> = {}) => {
    const fences = { count: 0 }
    const deps = { logs: { ...logs, ...changes }, clock: systemClock, random: seededRandom(4), id: 'q' }
    return { ends: createLogEnds({ ...deps, onFence: () => void fences.count++ }), fences }
  }
  return { hub, logs, write, open }
}

describe('the end of a log', () => {
  test('QUERY-15: lies behind all that was stored before it was asked for, whatever a server says of the end', async () => {
    const { logs, write, open } = await ground()
    await write()
    const old = await logs.state(logName(0)) // as a server says that was cut off while it led
    const { ends } = open({ state: async () => old })
    for (let i = 0; i < 5; i++) {
      const stored = await write()
      const place = await ends.of(0)
      expect(place.minSeq).toBeGreaterThan(stored)
      expect(place.incarnation).toBe(old.incarnation)
    }
  })

  test('QUERY-15: is not told when no fence can be stored', async () => {
    const { logs, write, open } = await ground()
    await write()
    const append = () => Promise.reject(new UnavailableError('bus-timeout', 'most servers are away'))
    await expect(open({ append, state: logs.state }).ends.of(0)).rejects.toMatchObject({ code: 'bus-timeout' })
  })

  test('an append without an answer is sent again', async () => {
    const { hub, write, open } = await ground()
    const stored = await write()
    let lost = 0
    hub.faults.onAppend = () => (lost++ === 0 ? 'store-but-lose-ack' : undefined)
    const place = await open().ends.of(0)
    expect(place.minSeq).toBe(stored + 2)
  })

  test('QUERY-16: who asks while a fence is on its way shares the next one, and sees what was stored meanwhile', async () => {
    const { write, open } = await ground()
    const { ends, fences } = open()
    const first = ends.of(0)
    const stored = await write()
    const later = await Promise.all(Array.from({ length: 100 }, () => ends.of(0)))
    expect((await first).minSeq).toBeLessThan(stored)
    expect(new Set(later).size).toBe(1)
    expect(later[0]!.minSeq).toBeGreaterThan(stored)
    expect(fences.count).toBe(2)
  })

  test('QUERY-16: a log that is nearly full keeps its room for marks, until it has room again', async () => {
    const { logs, write, open } = await ground({ bytesMax: 10_000 })
    const { ends } = open()
    await write(9_500)
    await ends.of(0) // does not know yet
    const { lastSeq } = await logs.state(logName(0))
    await expect(ends.of(0)).rejects.toMatchObject({ code: 'log-full', kind: 'unavailable' })
    expect((await logs.state(logName(0))).lastSeq).toBe(lastSeq)
    await logs.purge(logName(0), 2, 1_000)
    expect((await ends.of(0)).minSeq).toBe(lastSeq + 1)
  })
})
