// Junk on every subject of a running system: refused or counted, never fatal, and nobody else notices.
import { randomBytes } from 'node:crypto'
import { setTimeout as sleep } from 'node:timers/promises'
import { Encoder } from 'cbor-x'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { subjectFor } from '../../shared/bus/contract.ts'
import { keyFor } from '../../shared/bus/record.ts'
import * as log from '../../shared/contracts/log.ts'
import * as member from '../../shared/contracts/member.ts'
import * as queries from '../../shared/contracts/query.ts'
import * as read from '../../shared/contracts/read.ts'
import * as write from '../../shared/contracts/write.ts'
import { eventually, WAIT_MS } from '../waiting.ts'
import { ask, pushUntilTaken, sample, valuesOf } from './client.ts'
import { connectPlain, type PlainNats } from './nats-plain.ts'
import { findNatsServer } from './nats-server.ts'
import { pidOf, type System, startSystem } from './system.ts'

const found = findNatsServer()
if ('reason' in found) console.warn(`skipped: junk on the bus: ${found.reason}`)

const cbor = new Encoder({ useRecords: false })
const versioned = (value: unknown) => Buffer.concat([Buffer.of(1), cbor.encode(value)])
const NESTING = 200_000
const MIB = 1024 * 1024
/** Whoever hears nothing of the ring any more refuses reads after 15 s, writes after 30 s, as a system is set that is told nothing else. */
const UNWRITABLE_MS = 35_000

const payloads: Readonly<Record<string, () => Uint8Array>> = {
  nothing: () => Buffer.alloc(0),
  'one byte': () => Buffer.of(1),
  'random bytes': () => randomBytes(700),
  'random bytes behind a version': () => Buffer.concat([Buffer.of(1), randomBytes(700)]),
  'another version': () => Buffer.concat([Buffer.of(9), cbor.encode({ partition: 0 })]),
  'CBOR nested deeply': () => Buffer.concat([Buffer.of(1), Buffer.alloc(NESTING, 0x81), Buffer.of(0)]),
  'maps nested deeply': () => Buffer.concat([Buffer.of(1), Buffer.from('a16161'.repeat(NESTING), 'hex'), Buffer.of(0)]),
  'CBOR that declares 4 billion elements': () => Buffer.from('019affffffff00', 'hex'),
  'CBOR that declares a string of 4 GB': () => Buffer.from('017affffffff6161', 'hex'),
  'JSON nested deeply': () => Buffer.from('['.repeat(NESTING)),
  'JSON objects nested deeply': () => Buffer.from(`${'{"query":'.repeat(50_000)}1${'}'.repeat(50_000)}`),
  null: () => versioned(null),
  'a number': () => versioned(7),
  'a huge string': () => versioned('x'.repeat(6_000_000)),
  'fields of wrong types': () =>
    versioned({ partition: 'zero', tenant: 5, matchers: 7, selectors: {}, startMs: 'a', hashes: 'x', minSeq: -1 }),
  'fields of wild values': () =>
    versioned({
      partition: 0,
      tenant: 'anonymous',
      watermark: 0,
      minSeq: Number.MAX_SAFE_INTEGER,
      incarnation: '',
      waitMs: 1e300,
      matchers: [{ type: '=~', name: '__name__', value: '((((' }],
      selectors: [[{ type: '?', name: 1, value: null }]],
      startMs: Number.NaN,
      endMs: Number.POSITIVE_INFINITY,
      mode: 'none',
      seriesMax: -5,
      limit: -1,
      hashes: 12,
      name: 3,
      metric: [],
      segment: 1e9,
      series: [null],
      id: {},
    }),
  'JSON with a prototype': () => Buffer.from('{"__proto__":{"query":"up"},"constructor":1,"query":["up"],"time":{}}'),
  'a push that is no snappy': () => Buffer.concat([Buffer.of(1), randomBytes(40)]),
  'a push of another protocol': () => Buffer.of(7, 1, 2, 3),
}

const headerSets: readonly Readonly<Record<string, string>>[] = [
  {},
  { 'Carillon-Flow': 'upload 99999999999' },
  { 'Carillon-Flow': 'upload -1', 'Carillon-Timeout-Ms': 'never' },
  { 'Carillon-Flow': 'end x', 'Carillon-Cancel': 'x'.repeat(3_000) },
  { 'Carillon-Timeout-Ms': '1e99', 'Content-Type': 'application/cbor', 'Carillon-Request-Id': '\u0001' },
]

describe.skipIf('reason' in found && process.env['CARILLON_CI'] !== '1')('junk', () => {
  let system: System
  let nats: PlainNats
  let pids: Record<string, number>

  beforeAll(async () => {
    system = await startSystem({ args: ['--log-level', 'warn'] })
    nats = await connectPlain(system.ready)
    await pushUntilTaken(system.url, { series: [sample('before', 1)] })
    pids = pidsNow()
  })
  afterAll(async () => {
    await nats?.close()
    await system?.stop()
  })

  const actors = () => system.ready.processes.filter(({ role }) => role !== 'nats-server').map(({ id }) => id)
  const pidsNow = () => Object.fromEntries(actors().map((id) => [id, pidOf(system, id)]))

  /** The same processes, and they still work. */
  async function isUnharmed(name: string): Promise<void> {
    await nats.flush()
    const { status, text } = await pushUntilTaken(system.url, { series: [sample('after', 1, ['junk', name])] })
    expect({ status, text }).toEqual({ status: 204, text: '' })
    await eventually('the next query', WAIT_MS, async () => {
      expect(await valuesOf(system.url, `after{junk="${name}"}`)).toEqual(['1'])
      return true
    })
    expect(pidsNow()).toEqual(pids)
  }

  function subjectsOfContracts(): string[] {
    const contracts = [member, queries, read, write].flatMap((family) =>
      Object.values(family).filter((value) => typeof value === 'object' && value !== null && 'subject' in value),
    ) as never[]
    const subjects = contracts.flatMap((contract) =>
      actors().map((id) => `cln.${subjectFor(contract, { id, tenant: 'anonymous', kind: 'instant' } as never)}`),
    )
    return [...new Set(subjects), 'cln.ask.cancel', 'cln.query.anonymous.nothing', 'cln.push.__bad']
  }

  test('every contract has a subject here', () => {
    expect(subjectsOfContracts().length).toBeGreaterThan(15)
  })

  test.each(Object.keys(payloads))('on every subject: %s', async (name) => {
    const inbox = `_INBOX.junk.${Object.keys(payloads).indexOf(name)}`
    const answers = nats.listen(`${inbox}.>`)
    for (const [at, subject] of subjectsOfContracts().entries()) {
      const payload = payloads[name]!()
      for (const headers of payload.length < MIB ? headerSets : headerSets.slice(0, 1)) {
        nats.publish(subject, payload, headers)
        nats.publish(subject, payload, headers, `${inbox}.${at}`)
      }
      await nats.flush()
    }
    await isUnharmed(name)
    expect(answers.length).toBeGreaterThan(0)
  })

  test('in a log: counted as damage, named, passed over', async () => {
    const magic = Buffer.from('CB')
    const batches = [
      Buffer.alloc(0),
      randomBytes(300),
      Buffer.concat([magic, Buffer.of(1, 0), randomBytes(300)]),
      Buffer.concat([magic, Buffer.of(9, 0), randomBytes(300)]),
      versioned({ hello: 1 }),
      Buffer.alloc(400_000, 0x81),
    ]
    for (const batch of batches) nats.publish(`cln.${log.batchSubject(0)}`, batch)
    for (const mark of [
      Buffer.alloc(0),
      randomBytes(60),
      Buffer.from('{"v":1}'),
      Buffer.from('{"v":1,"number":1099511627776,"writer":"x","nonce":"00"}'),
      Buffer.from('null'),
      Buffer.from('7'),
    ]) {
      nats.publish(`cln.${log.markSubject(0)}`, mark)
    }
    nats.publish('cln.log.0.other', randomBytes(10))
    nats.publish('cln.log.77.batch', randomBytes(10))
    nats.publish('cln.log.x.mark', randomBytes(10))
    await isUnharmed('in a log')
    const page = await (await fetch(`${system.url}/metrics`)).text()
    const damage = Number(/^carillon_log_damage_total\{[^}]*kind="bad-checksum"[^}]*\} (\d+)/m.exec(page)?.[1])
    expect(damage).toBeGreaterThanOrEqual(batches.length)
    const status = await (await fetch(`${system.url}/api/v1/status/partitions`)).text()
    expect(status).toContain('bad-checksum at ')
    expect(status).toContain('bad-mark at ')
    const { body } = await ask(system.url, '/api/v1/query', { query: 'before' })
    expect(body.status).toBe('success')
    expect(JSON.stringify(body.warnings)).toContain('bad-checksum')
  })

  test('in the bucket of members: passed over', async () => {
    const all = ['', 'x', 'null', '7', '{}', '{"v":1,"id":"evil","role":"ingester"}', '['.repeat(NESTING)]
    for (const [i, junk] of all.entries()) {
      nats.publish(`$KV.cln-ring.member.evil-${i}`, junk)
      nats.publish(`$KV.cln-log.${keyFor(log.highWaterRecord, { partition: 0, distributor: `evil-${i}` })}`, junk)
      nats.publish(`$KV.cln-log.${keyFor(log.checkpointRecord, { partition: 0, ingester: `evil-${i}` })}`, junk)
    }
    const endMs = performance.now() + UNWRITABLE_MS
    for (let round = 0; performance.now() < endMs; round++) {
      await isUnharmed(`members ${round}`)
      await sleep(1_000)
    }
  })
})
