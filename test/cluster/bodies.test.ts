// What is larger than one message of the bus passes over it all the same: pushes and answers of 20 MB on a server that takes 1 MB.
import { createHash, randomBytes } from 'node:crypto'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { encodeWriteV1, type PlainSeries } from '../../shared/wire/remote-write-encode.ts'
import { compress } from '../../shared/wire/snappy.ts'
import { ask, pushBody, pushUntilTaken, sample } from './client.ts'
import { connectPlain, type Heard } from './nats-plain.ts'
import { findNatsServer, type NatsServer, startNatsServer } from './nats-server.ts'
import { type System, startSystem } from './system.ts'

const MIB = 1024 * 1024
const found = findNatsServer()
if ('reason' in found) console.warn(`skipped: bodies larger than a message: ${found.reason}`)

/** About 40 KB a series, and nothing in it that compresses. */
function wideSeries(count: number, time: number): PlainSeries[] {
  return Array.from({ length: count }, (_, at) => {
    const wide = Array.from({ length: 27 }, (_, i) => [`w${10 + i}`, randomBytes(1_125).toString('base64')])
    return { labels: ['__name__', 'wide', 'at', String(at), ...wide.flat()], samples: [{ time, value: at }] }
  })
}

const digestOf = (pairs: [string, string][]) => createHash('sha256').update(JSON.stringify(pairs.sort())).digest('hex')

function pairsOf(labels: readonly string[]): [string, string][] {
  return labels.flatMap((name, i) => (i % 2 === 0 ? [[name, labels[i + 1]!] as [string, string]] : []))
}

describe.skipIf('reason' in found && process.env['CARILLON_CI'] !== '1')(
  'on a nats-server with max_payload 1 MB',
  () => {
    const time = Date.now()
    const series = wideSeries(520, time)
    let server: NatsServer
    let system: System
    let passed: readonly Heard[]
    let stopListening: () => Promise<void>

    beforeAll(async () => {
      server = await startNatsServer({ maxPayload: MIB, syncAlways: true })
      system = await startSystem({ args: ['--nats', server.url] })
      const nats = await connectPlain(server.url)
      expect(nats.payloadBytesMax).toBe(MIB)
      passed = nats.listen('cln.>')
      await nats.flush()
      stopListening = nats.close
      await pushUntilTaken(system.url, { series: [sample('first', 1)] })
    })
    afterAll(async () => {
      await stopListening?.()
      await system?.stop()
      await server?.stop()
    })

    test('a push of 20 MB is taken in whole', async () => {
      const body = compress(encodeWriteV1({ series }))
      expect(body.length).toBeGreaterThan(20 * MIB)
      const pushed = await pushBody(system.url, body)
      expect({ status: pushed.status, text: pushed.text }).toEqual({ status: 204, text: '' })
      expect(pushed.headers.get('X-Prometheus-Remote-Write-Samples-Written')).toBe('520')
      expect(Math.max(...passed.map(({ bytes }) => bytes.length))).toBeLessThan(MIB)
    })

    test('and an answer of 20 MB comes out, the same to the last byte', async () => {
      const { status, body } = await ask(
        system.url,
        '/api/v1/query',
        { query: 'wide', time: String(time / 1000) },
        { consistency: 'strong' },
      )
      expect(status).toBe(200)
      const came = new Map<string, string>()
      for (const { metric, value } of body.data.result) came.set(digestOf(Object.entries(metric)), value[1])
      const wanted = series.map(({ labels }, at) => [digestOf(pairsOf(labels)), String(at)] as const)
      expect(came.size).toBe(520)
      expect(wanted.filter(([digest, value]) => came.get(digest) !== value)).toEqual([])
      const names = await ask(system.url, '/api/v1/series', { 'match[]': 'wide' })
      expect(names.body.data).toHaveLength(520)
      expect(Math.max(...passed.map(({ bytes }) => bytes.length))).toBeLessThan(MIB)
    })

    test('a question of many megabytes travels too', async () => {
      const selectors = Array.from({ length: 6 }, () => ['match[]', `first # ${'x'.repeat(MIB / 2)}`])
      const answer = await fetch(`${system.url}/api/v1/series`, {
        method: 'POST',
        body: new URLSearchParams(selectors),
      })
      expect(answer.status).toBe(200)
      expect(((await answer.json()) as { data: unknown[] }).data).toHaveLength(1)
    })
  },
)
