// `carillon partitions add`: more partition logs for a running system.
import { sleep, systemClock } from '../../shared/base/clock.ts'
import { defineSettings, duration } from '../../shared/config/settings.ts'
import type { PartitionsRecord, RingReply } from '../../shared/contracts/member.ts'
import { addPartitions, readPartitions } from '../../shared/membership/bootstrap.ts'
import { SetupError } from '../launcher/setup-error.ts'
import { type System, systemCommand } from './system.ts'

const POLL_MS = 250

type Partitions = Pick<PartitionsRecord, 'count' | 'writable'>

export const partitionsCommand = systemCommand({
  name: 'partitions',
  usage: 'add N [flags]',
  does: 'partitions add N: more partition logs for a running system',
  intro:
    'Adds N partition logs to a running system, as large as the first one and with as many copies. They are read at once, and take series when all members know them.',
  settings: defineSettings({
    waitMs: duration('2m', 'how long `partitions add` waits until the new ones take series', { min: '1s' }),
  }),
  takesWords: true,
  async run({ words: [verb, count, ...rest], config, system }) {
    const more = Number(count)
    if (verb !== 'add' || !Number.isInteger(more) || more < 1 || rest.length > 0)
      throw new SetupError(2, 'partitions wants "add" and how many more, such as: carillon partitions add 2')
    const record = await addOnline(system, { more, waitMs: config.waitMs })
    return { text: `${record.count} partitions take series\n` }
  },
})

/** Adds partitions to a running system and waits until they take series. */
function addOnline(system: System, { more, waitMs }: { more: number; waitMs: number }): Promise<Partitions> {
  return system.ask({
    http: (client) =>
      writable(waitMs, {
        add: () => client.data(`/api/v1/admin/partitions?add=${more}`, { method: 'POST', isOnce: true }),
        async look() {
          const { partitionCount, writableCount } = await client.data<RingReply>('/api/v1/status/ring')
          return { count: partitionCount, writable: writableCount }
        },
      }),
    nats: (bus) => writable(waitMs, { add: () => addPartitions(bus, more), look: () => readPartitions(bus) }),
  })
}

async function writable(
  waitMs: number,
  { add, look }: { add: () => Promise<Partitions>; look: () => Promise<Partitions> },
): Promise<Partitions> {
  const { count } = await add()
  const untilMs = systemClock.monotonic() + waitMs
  for (;;) {
    const found = await look()
    if (found.writable >= count) return found
    if (systemClock.monotonic() >= untilMs) {
      const text = `the logs are there and are read, but after ${waitMs} ms only ${found.writable} of ${count} partitions take series: \`carillon ring\` shows which member has not confirmed or not caught up. They open by themselves`
      throw new SetupError(1, text)
    }
    await sleep(systemClock, POLL_MS)
  }
}
