// The memory bus passes the suite of every bus.
import { systemClock } from '../../../shared/base/clock.ts'
import { seededRandom } from '../../../shared/base/random.ts'
import { createMemoryHub } from '../../../shared/bus/memory/memory-bus.ts'
import { busSuite } from '../../suites/bus-suite.ts'

busSuite('memory bus', async () => {
  const hub = createMemoryHub({ clock: systemClock, random: seededRandom(1), onHandlerError: () => {} })
  const names = new Set<string>()
  return {
    async connect(name) {
      names.add(name)
      return hub.connect(name)
    },
    async loseServer() {
      for (const name of names) if (hub.has(name)) hub.disconnect(name)
    },
    async bringBackServer() {
      for (const name of names) if (hub.has(name)) hub.reconnect(name)
    },
    async close() {},
  }
})
