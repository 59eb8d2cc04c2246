// The ring as this gateway sees it: JSON for programs, a plain page for people.
import type { RingReply } from '../../shared/contracts/member.ts'
import type { Membership } from '../../shared/membership/membership.ts'
import { type Answer, jsonAnswer, type Route } from './exchange.ts'

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
      answer: () => htmlAnswer(pageOf(membership.ring())),
    },
  ]
}

function htmlAnswer(body: string): Answer {
  const headers = {
    'Content-Type': 'text/html; charset=utf-8',
    'Content-Security-Policy': "default-src 'none'; style-src 'unsafe-inline'",
  }
  return { status: 200, headers, body }
}

function pageOf(ring: RingReply): string {
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
  return `<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>Carillon: ring</title><meta http-equiv="refresh" content="5">
<style>body{font:14px system-ui,sans-serif;margin:2em}table{border-collapse:collapse;margin:1em 0}
td,th{border:1px solid #bbb;padding:.25em .6em;text-align:left}tr.bad td{background:#fdd}tr.moving td{background:#ffd}
@media(prefers-color-scheme:dark){body{background:#111;color:#ddd}tr.bad td{background:#522}tr.moving td{background:#442}}</style></head><body>
<h1>Ring</h1>
<p>${ring.partitionCount} partitions, ${ring.writableCount} of them take series, ${ring.replicationFactor} owners each; as ${escaped(ring.asSeenBy)} sees it.</p>
${warning}
<h2>Members</h2>
${table(['id', 'role', 'zone', 'state', 'health', 'heard', 'holds', 'version'], members, ([, , , state, health]) => {
  if (health === 'silent') return 'bad'
  return state === 'ACTIVE' ? '' : 'moving'
})}
<h2>Partitions</h2>
${table(['partition', 'state', 'takes series', 'owners, the leader first', 'also held by'], partitions, ([, state]) => {
  if (state === 'unserved') return 'bad'
  return state === 'served' ? '' : 'moving'
})}
</body></html>
`
}

function table(
  head: readonly string[],
  rows: readonly (readonly string[])[],
  classOf: (row: readonly string[]) => string,
): string {
  const cells = (tag: string, row: readonly string[]) => row.map((cell) => `<${tag}>${escaped(cell)}</${tag}>`).join('')
  const body = rows.map((row) => `<tr class="${classOf(row)}">${cells('td', row)}</tr>\n`).join('')
  return `<table><tr>${cells('th', head)}</tr>\n${body}</table>`
}

function escaped(text: string): string {
  return text.replace(/[&<>"']/g, (char) => `&#${char.charCodeAt(0)};`)
}
