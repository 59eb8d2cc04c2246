// `carillon partitions add`: more partition logs for a running system.
import { sleep, systemClock } from '../../shared/base/clock.ts'
import type { CommonConfig } from '../../shared/config/common.ts'
import { defineSettings, duration } from '../../shared/config/settings.ts'
import type { PartitionsRecord } from '../../shared/contracts/member.ts'
import { addPartitions, readPartitions } from '../../shared/membership/bootstrap.ts'
import { SetupError } from '../launcher/setup-error.ts'
import { systemCommand, withBus } from './system.ts'

const POLL_MS = 250

export const partitionsCommand = systemCommand({
  name: 'partitions',
  usage: 'add N --nats URL [flags]',
  does: 'partitions add N: more partition logs for a running system',
  intro:
    'Adds N partition logs to a running system, as large as the first one and with as many copies. They are read at once, and take series when all members know them.',
  settings: defineSettings({
    waitMs: duration('2m', 'how long `partitions add` waits until the new ones take series', { min: '1s' }),
  }),
  takesWords: true,
  async run({ words: [verb, count, ...rest], config, common }) {
    const more = Number(count)
    if (verb !== 'add' || !Number.isInteger(more) || more < 1 || rest.length > 0)
      throw new SetupError(2, 'partitions wants "add" and how many more, such as: carillon partitions add 2 --nats URL')
    const record = await addOnline(common, { more, waitMs: config.waitMs })
    return { text: `${record.count} partitions take series\n` }
  },
})

/** Adds partitions to a running system and waits until they take series. */
function addOnline(common: CommonConfig, options: { more: number; waitMs: number }): Promise<PartitionsRecord> {
  return withBus(common, 'partitions', async (bus) => {
    let record = await addPartitions(bus, options.more)
    const untilMs = systemClock.monotonic() + options.waitMs
    while (record.writable < record.count) {
      if (systemClock.monotonic() >= untilMs) {
        const text = `the logs are there and are read, but after ${options.waitMs} ms only ${record.writable} of ${record.count} partitions take series: \`carillon ring\` shows which member has not confirmed or not caught up. They open by themselves`
        throw new SetupError(1, text)
      }
      await sleep(systemClock, POLL_MS)
      record = await readPartitions(bus)
    }
    return record
  })
}
