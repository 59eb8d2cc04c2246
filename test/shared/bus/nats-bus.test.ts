// The bus on NATS passes the suite of every bus, against a real server.
import { describe, expect, test } from 'vitest'
import { systemClock } from '../../../shared/base/clock.ts'
import { connectNats } from '../../../shared/bus/nats-bus.ts'
import { findNatsServer, startNatsServer } from '../../cluster/nats-server.ts'
import { busSuite } from '../../suites/bus-suite.ts'

const found = findNatsServer()

if ('reason' in found) console.warn(`skipped: the bus on NATS ${found.reason}`)

describe.skipIf('reason' in found)('on a real nats-server', () => {
  busSuite('nats bus', async () => {
    const server = await startNatsServer({ syncAlways: true, maxPayload: 1_048_576 })
    return {
      connect: (name) => connectNats({ servers: server.url, name, clock: systemClock, system: server.system }),
      loseServer: () => server.kill(),
      bringBackServer: () => server.restart(),
      close: () => server.stop(),
    }
  })

  describe('how much an acknowledged append survives', () => {
    test.each([
      [true, 'power-loss-safe'],
      [false, 'process-crash-safe'],
    ])('sync_interval always: %s makes it %s', async (syncAlways, durability) => {
      const server = await startNatsServer({ syncAlways })
      const bus = await connectNats({ servers: server.url, name: 'facts', clock: systemClock, system: server.system })
      expect(await bus.server()).toMatchObject({ durability })
      const ordinary = await connectNats({ servers: server.url, name: 'facts', clock: systemClock })
      expect(await ordinary.server()).toMatchObject({ durability: 'unknown' })
      await Promise.all([bus.close(), ordinary.close()])
      await server.stop()
    })
  })

  test('no server is unavailable, at once', async () => {
    const connecting = connectNats({ servers: 'nats://127.0.0.1:1', name: 'nobody', clock: systemClock })
    await expect(connecting).rejects.toMatchObject({ kind: 'unavailable', code: 'bus-disconnected' })
  })
})
