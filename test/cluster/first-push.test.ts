// Ready means now: the first push and the first query after it are answered, at every start, however it is waited for.
import { setTimeout as sleep } from 'node:timers/promises'
import { expect, test } from 'vitest'
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

test.skipIf(isSkipped)('no ready line while something is missing that runs elsewhere', async () => {
  const server = await startServer()
  let isReady = false
  const starting = startOn(server, ['--queriers=0']).finally(() => {
    isReady = true
  })
  starting.catch(() => {}) // awaited below
  await sleep(6_000)
  expect(isReady).toBe(false)
  const querier = startActor('querier', { nats: server.url, id: 'querier-far' })
  afterwards(() => endProcess(querier.process))
  const system = await starting
  await works(system.url)
})

async function works(url: string): Promise<void> {
  const pushed = await pushWrite(url, { series: [sample('first', 1)] })
  expect({ status: pushed.status, text: pushed.text }).toEqual({ status: 204, text: '' })
  const { status, body } = await ask(url, '/api/v1/query', { query: 'first' }, { consistency: pushed.position })
  expect({ status, value: body.data?.result[0]?.value[1], text: JSON.stringify(body) }).toMatchObject({
    status: 200,
    value: '1',
  })
}
