// Two processes under one id: the second is refused; after a kill the id is free at once, and one that hung and wakes finds it taken.
import { spawn } from 'node:child_process'
import { expect, test } from 'vitest'
import { until } from '../waiting.ts'
import { afterwards, cleanUpAfterEach, isSkipped, startOn, startServer } from './fault-ground.ts'
import type { NatsServer } from './nats-server.ts'
import { freeze, signal } from './processes.ts'
import { ringOf } from './ring.ts'
import { endProcess } from './system.ts'

cleanUpAfterEach()
const ROOT = new URL('../..', import.meta.url).pathname
const times = ['--heartbeat=200ms', '--unhealthy-after=2s']

test.skipIf(isSkipped)(
  'a second process is refused and names the first; killed, stopped or hung, an id finds its next process',
  async () => {
    const server = await startServer()
    const system = await startOn(server, times)
    const state = async () =>
      (await ringOf(system.url)).members.filter(({ id }) => id === 'q').map((member) => member.state)
    const incarnation = async () => (await ringOf(system.url)).members.find(({ id }) => id === 'q')?.incarnation

    const first = querier(server)
    await until('the first is there', async () => (await state())[0] === 'ACTIVE')
    const was = await incarnation()

    const second = querier(server)
    expect(await second.ended, second.said()).toBe(1)
    expect(second.said()).toMatch(
      new RegExp(`the id q is taken by a querier, process ${first.pid} on .*err-carillon-id-taken`),
    )
    expect(await incarnation()).toBe(was)

    signal(first.pid, 'SIGKILL')
    const startMs = performance.now()
    const third = querier(server)
    await until('the third is there', async () => (await incarnation()) !== was && (await state())[0] === 'ACTIVE')
    const tookMs = performance.now() - startMs
    console.log(`one id: after a kill -9 the next process was ACTIVE after ${Math.round(tookMs)} ms`)
    const thirds = await incarnation()

    await freeze(third.pid)
    const fourth = querier(server)
    await until('the fourth is there', async () => (await incarnation()) !== thirds && (await state())[0] === 'ACTIVE')
    const fourths = await incarnation()
    signal(third.pid, 'SIGCONT')
    expect(await third.ended, third.said()).toBe(1)
    expect(third.said()).toContain('the id q is taken by another process, which took this one for dead')
    expect(await incarnation()).toBe(fourths)
    signal(fourth.pid, 'SIGTERM')
    expect(await fourth.ended, fourth.said()).toBe(0)
    expect(await state()).toEqual([])
  },
)

interface Querier {
  readonly pid: number
  /** Its exit code. */
  readonly ended: Promise<number | null>
  said(): string
}

function querier({ url }: NatsServer): Querier {
  const flags = ['services/carillon.mjs', 'querier', '--nats', url, '--id=q', ...times]
  const child = spawn(process.execPath, flags, { cwd: ROOT, stdio: ['ignore', 'ignore', 'pipe'] })
  afterwards(async () => {
    child.kill('SIGCONT')
    await endProcess(child)
  })
  let said = ''
  child.stderr.on('data', (chunk: Buffer) => {
    said += chunk.toString()
  })
  const ended = new Promise<number | null>((resolve) => child.once('close', resolve))
  return { pid: child.pid!, ended, said: () => said }
}
