// Everything that one actor says to another passes over NATS, on subjects that begin with the prefix: a listener on the embedded
// nats-server sees each hop of a push and of a query.
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { encodeTenant } from '../../shared/model/tenant.ts'
import { eventually, WAIT_MS } from '../waiting.ts'
import { ask, pushUntilTaken, sample } from './client.ts'
import { connectPlain, type Heard, type PlainNats } from './nats-plain.ts'
import { findNatsServer } from './nats-server.ts'
import { type System, startSystem } from './system.ts'

const found = findNatsServer()
if ('reason' in found) console.warn(`skipped: every hop passes over NATS: ${found.reason}`)

describe.skipIf('reason' in found && process.env['CARILLON_CI'] !== '1').each(['cln', 'other'])(
  'with --prefix %s',
  (prefix) => {
    const tenant = 'team.a'
    const token = encodeTenant(tenant)
    let system: System
    let nats: PlainNats
    let heard: readonly Heard[]
    let everything: readonly Heard[]

    beforeAll(async () => {
      system = await startSystem({ args: ['--prefix', prefix, '--segment', '2s', '--segment-min', '1s'] })
      nats = await connectPlain(system.ready)
      heard = nats.listen(`${prefix}.>`)
      everything = nats.listen('>')
      await nats.flush()
    })
    afterAll(async () => {
      await nats?.close()
      await system?.stop()
    })

    const on = (pattern: RegExp, requestId?: string) =>
      heard.filter(
        ({ subject, headers }) =>
          pattern.test(subject.slice(prefix.length + 1)) &&
          (requestId === undefined || headers['Carillon-Request-Id'] === requestId),
      )

    /** The one who asked got it: something was sent to the reply subject. */
    const isAnswered = ({ reply }: Heard) =>
      everything.some(({ subject }) => subject === reply || subject.startsWith(`${reply}.`))

    test('a push goes to a distributor and from there into a log', async () => {
      const write = { series: [sample('hops_total', 1)] }
      await pushUntilTaken(system.url, write, { tenant })
      const pushed = await pushUntilTaken(system.url, write, { tenant, headers: { 'X-Request-Id': 'push-seen' } })
      expect(pushed.status).toBe(204)
      const hop = await eventually('the push', WAIT_MS, async () => on(/^distributor\.[^.]+\.push\./, 'push-seen')[0])
      expect(hop.subject).toBe(`${prefix}.distributor.distributor-1.push.${token}`)
      await eventually('its answer', WAIT_MS, async () => (isAnswered(hop) ? true : undefined))
      await eventually('the log batch', WAIT_MS, async () => on(/^log\.0\.batch$/)[0])
    })

    test('a query goes to a querier and from there to the owner', async () => {
      const parameters = { query: 'hops_total' }
      const headers = { 'X-Scope-OrgID': tenant, 'X-Request-Id': 'query-seen', 'X-Read-Consistency': 'strong' }
      const answer = await fetch(`${system.url}/api/v1/query?${new URLSearchParams(parameters)}`, { headers })
      expect(((await answer.json()) as { data: { result: object[] } }).data.result).toHaveLength(1)
      const query = await eventually('the query', WAIT_MS, async () => on(/^query\./, 'query-seen')[0])
      expect(query.subject).toBe(`${prefix}.query.${token}.instant`)
      expect(JSON.parse(Buffer.from(query.bytes).toString())).toMatchObject(parameters)
      const select = await eventually('the select', WAIT_MS, async () => on(/^ingester\./, 'query-seen')[0])
      expect(select.subject).toBe(`${prefix}.ingester.ingester-1.select`)
      for (const hop of [query, select]) {
        await eventually('its answer', WAIT_MS, async () => (isAnswered(hop) ? true : undefined))
      }
      await ask(system.url, '/api/v1/labels', {}, { tenant })
      await eventually('label names', WAIT_MS, async () => on(/^ingester\.ingester-1\.label_names$/)[0])
    })

    test('marks, counts and heartbeats pass too', async () => {
      await eventually('a mark', WAIT_MS, async () => on(/^log\.0\.mark$/)[0])
      await eventually('what an owner holds', WAIT_MS, async () => on(/^ingester\.counted$/)[0])
      const bucket = new RegExp(`^\\$KV\\.${prefix}-ring\\.member\\.ingester-1$`)
      await eventually('a heartbeat', WAIT_MS, async () => everything.find(({ subject }) => bucket.test(subject)))
    })

    test('the metrics page asks every actor over the bus', async () => {
      const page = await (await fetch(`${system.url}/metrics`)).text()
      expect(page).toContain('carillon_member_up')
      const ids = system.ready.processes.map(({ id }) => id).filter((id) => !/^(nats|gateway|launcher)/.test(id))
      for (const id of ids) {
        await eventually(`metrics of ${id}`, WAIT_MS, async () =>
          on(/^member\./).find(({ subject }) => subject.includes(id)),
        )
      }
    })

    test('no subject is outside the prefix but those of NATS itself and private inboxes', () => {
      const subjects = new Set(everything.map(({ subject }) => subject.split('.', 2).join('.')))
      const isOurs = (subject: string) => subject.startsWith(`${prefix}.`)
      const isOfNats = (subject: string) => /^(_INBOX\.|\$KV\.|\$O\.|\$JS\.)/.test(subject)
      expect([...subjects].filter((subject) => !isOurs(subject) && !isOfNats(subject))).toEqual([])
      const names = everything.flatMap(({ subject }) => /^\$(?:KV|O)\.([^.]+)/.exec(subject)?.[1] ?? [])
      expect(names.filter((name) => !name.startsWith(`${prefix}-`))).toEqual([])
    })
  },
)
