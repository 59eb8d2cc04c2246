// `carillon ring`: the members of a running system, and the owners of each partition.
import { textOf } from '../../shared/base/errors.ts'
import { ask } from '../../shared/bus/ask.ts'
import { choice, defineSettings } from '../../shared/config/settings.ts'
import { type RingReply, ring } from '../../shared/contracts/member.ts'
import { SetupError } from '../launcher/setup-error.ts'
import { type System, systemCommand } from './system.ts'
import { printed, table } from './table.ts'

export const ringCommand = systemCommand({
  name: 'ring',
  usage: '[flags]',
  does: 'who is here and who owns what, in a running system',
  intro: 'Shows the members of a running system, and the owners of each partition.',
  settings: defineSettings({
    output: choice(['text', 'json'], 'text', 'what `ring` prints: tables for people, or one JSON line'),
  }),
  async run({ config, system }) {
    const reply = await askRing(system)
    return { text: printed(config, reply, ringText(reply)) }
  },
})

/** The ring as some member sees it. */
function askRing(system: System): Promise<RingReply> {
  return system.ask({
    http: (client) => client.data<RingReply>('/api/v1/status/ring'),
    nats: (bus) =>
      ask(bus, ring, {}, {}, {}).catch((error: unknown) => {
        const text = `no member answers (${textOf(error)}): does anything run there, and under this --prefix?`
        throw new SetupError(1, text, { cause: error })
      }),
  })
}

/** Two tables for people. */
function ringText(reply: RingReply): string {
  const { members, partitions, partitionCount, writableCount, replicationFactor } = reply
  const head = `${partitionCount} partitions (${writableCount} take series), ${replicationFactor} owners each, as ${reply.asSeenBy} sees it${reply.isConfirmed ? '' : ' (not confirmed)'}`
  const memberRows = members.map(({ id, role, zone, state, isHealthy, heartbeatAgeMs, holdsCount, version }) => {
    const holds = role === 'ingester' ? String(holdsCount) : ''
    return [
      id,
      role,
      zone,
      state,
      isHealthy ? 'healthy' : 'silent',
      `${(heartbeatAgeMs / 1000).toFixed(1)}s`,
      holds,
      version,
    ]
  })
  const partitionRows = partitions.map(({ partition, state, isWritable, owners, alsoHeldBy }) => {
    const named = owners.map(({ id, hasCaughtUp }) => (hasCaughtUp ? id : `${id} (replaying)`))
    return [String(partition), state, isWritable ? '' : 'read only', named.join(', '), alsoHeldBy.join(', ')]
  })
  return [
    head,
    '',
    ...table(['MEMBER', 'ROLE', 'ZONE', 'STATE', 'HEALTH', 'HEARD', 'HOLDS', 'VERSION'], memberRows),
    '',
    ...table(['PARTITION', 'STATE', '', 'OWNERS', 'ALSO HELD BY'], partitionRows),
    '',
  ].join('\n')
}
