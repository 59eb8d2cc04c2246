// Ready means now: the first push and the first query after it are answered, at every start, however it is waited for.
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { expect, test } from 'vitest'
import { launch } from '../services/launcher/carillon-process.ts'
import { until } from '../waiting.ts'
import { ask, pushWrite, sample } from './client.ts'
import { afterwards, cleanUpAfterEach, isSkipped, startOn, startServer } from './fault-ground.ts'
import { connectPlain } from './nats-plain.ts'
import { startActor } from './ring.ts'
import { endProcess, freePort, startSystem } from './system.ts'

cleanUpAfterEach()
const STARTS = 4
const shapes: readonly (readonly [string, readonly string[]])[] = [
  ['one of each', []],
  [
    'two of each, four partitions',
    ['--partitions=4', '--replication-factor=2', '--ingesters=2', '--distributors=2', '--queriers=2', '--gateways=2'],
  ],
]

test.skipIf(isSkipped).each(shapes)('after the ready line of a start: %s', async (_, args) => {
  for (let i = 0; i < STARTS; i++) {
    const system = await startSystem({ args })
    const gateways = system.ready.processes.filter(({ role }) => role === 'gateway').map(({ address }) => address!)
    await Promise.all(gateways.map((address) => works(address.startsWith('http') ? address : `http://${address}`)))
    await system.stop()
  }
})

test.skipIf(isSkipped)('after the first 200 of /-/ready, asked from before the start on', async () => {
  for (let i = 0; i < STARTS; i++) {
    const port = await freePort()
    const url = `http://127.0.0.1:${port}`
    const starting = startSystem({ port })
    for (;;) {
      const answer = await fetch(`${url}/-/ready`).catch(() => undefined)
      if (answer?.status === 200) break
      await answer?.body?.cancel()
      await sleep(5)
    }
    await works(url)
    await (await starting).stop()
  }
})

test.skipIf(isSkipped).each([
  ['a log', 'cln-log-0', /writes: distributor-1 cannot work yet: the log of partition 0 does not answer/],
  ['the bucket of the ring', 'KV_cln-ring', /this gateway does not hear its own heartbeats/],
])('not while %s is gone', async (_, stream, text) => {
  const server = await startServer()
  const system = await startOn(server, ['--heartbeat=200ms', '--unhealthy-after=2s'])
  expect((await fetch(`${system.url}/-/ready`)).status).toBe(200)
  const nats = await connectPlain(server.url)
  await nats.request(`$JS.API.STREAM.DELETE.${stream}`, '')
  await nats.close()
  await until('it is told', async () => text.test(await (await fetch(`${system.url}/-/ready`)).text()), 15_000)
  expect((await fetch(`${system.url}/-/ready`)).status).toBe(503)
  expect((await fetch(`${system.url}/-/healthy`)).status).toBe(200)
})

test.skipIf(isSkipped)('no ready line while writes do not work; whoever waits is told why', async () => {
  const server = await startServer({ syncAlways: false })
  const data = mkdtempSync(join(tmpdir(), 'carillon-first-'))
  const flags = [
    '--listen=127.0.0.1:0',
    '--output=json',
    `--data=${data}`,
    `--nats=${server.url}`,
    '--require-power-safe',
  ]
  const launched = launch(['start', ...flags])
  afterwards(async () => {
    await endProcess(launched.child)
    rmSync(data, { recursive: true, force: true })
  })
  let isReady = false
  launched.ready.then(
    () => {
      isReady = true
    },
    () => {},
  )
  await until(
    'it is told',
    () => launched.stderr().includes('waiting for gateway-1: writes: writes are refused'),
    30_000,
  )
  expect(isReady).toBe(false)
})

test.skipIf(isSkipped)(
  'a start of a part says where it is as soon as that runs, so that the rest can be started',
  async () => {
    const server = await startServer()
    const system = await startOn(server, ['--queriers=0'])
    const answer = await fetch(`${system.url}/-/ready`)
    expect({ status: answer.status, text: await answer.text() }).toEqual({
      status: 503,
      text: expect.stringContaining('reads: no live querier: start one (carillon querier)'),
    })
    const querier = startActor('querier', { nats: server.url, id: 'querier-far' })
    afterwards(() => endProcess(querier.process))
    await until('it is ready', async () => (await fetch(`${system.url}/-/ready`)).ok)
    await works(system.url)
  },
)

async function works(url: string): Promise<void> {
  const pushed = await pushWrite(url, { series: [sample('first', 1)] })
  expect({ status: pushed.status, text: pushed.text }).toEqual({ status: 204, text: '' })
  const { status, body } = await ask(url, '/api/v1/query', { query: 'first' }, { consistency: pushed.position })
  expect({ status, value: body.data?.result[0]?.value[1], text: JSON.stringify(body) }).toMatchObject({
    status: 200,
    value: '1',
  })
}
