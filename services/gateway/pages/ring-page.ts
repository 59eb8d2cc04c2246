// The ring as this gateway sees it: JSON for programs, a plain page for people.
import type { RingReply } from '../../../shared/contracts/member.ts'
import type { Membership } from '../../../shared/membership/membership.ts'
import { jsonAnswer, type Route } from '../http/exchange.ts'
import { escaped, htmlPage, htmlTable } from './html.ts'

export function ringRoutes({ membership }: { readonly membership: Membership }): readonly Route[] {
  return [
    {
      name: 'ring',
      methods: ['GET'],
      path: '/api/v1/status/ring',
      access: 'admin',
      errors: 'json',
      answer: () => jsonAnswer(membership.ring()),
    },
    {
      name: 'ring',
      methods: ['GET'],
      path: '/ring',
      access: 'admin',
      errors: 'text',
      answer: () => htmlPage('ring', bodyOf(membership.ring())),
    },
  ]
}

function bodyOf(ring: RingReply): string {
  const members = ring.members.map((member) => [
    ...[member.id, member.role, member.zone, member.state, member.isHealthy ? 'healthy' : 'silent'],
    `${(member.heartbeatAgeMs / 1000).toFixed(1)} s`,
    member.role === 'ingester' ? String(member.holdsCount) : '',
    member.version,
  ])
  const partitions = ring.partitions.map(({ partition, state, isWritable, owners, alsoHeldBy }) => [
    ...[String(partition), state, isWritable ? 'yes' : 'not yet'],
    owners.map(({ id, hasCaughtUp }) => (hasCaughtUp ? id : `${id} (replaying)`)).join(', '),
    alsoHeldBy.join(', '),
  ])
  const warning = ring.isConfirmed ? '' : '<p><b>This view is not confirmed: changes may have passed unheard.</b></p>'
  return `<h1>Ring</h1>
<p>${ring.partitionCount} partitions, ${ring.writableCount} of them take series, ${ring.replicationFactor} owners each; as ${escaped(ring.asSeenBy)} sees it.</p>
${warning}
<h2>Members</h2>
${htmlTable(
  ['id', 'role', 'zone', 'state', 'health', 'heard', 'holds', 'version'],
  members,
  ([, , , state, health]) => {
    if (health === 'silent') return 'bad'
    return state === 'ACTIVE' ? '' : 'moving'
  },
)}
<h2>Partitions</h2>
${htmlTable(
  ['partition', 'state', 'takes series', 'owners, the leader first', 'also held by'],
  partitions,
  ([, state]) => {
    if (state === 'unserved') return 'bad'
    return state === 'served' ? '' : 'moving'
  },
)}`
}
