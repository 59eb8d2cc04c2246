// Nothing outlives whoever it belongs to: whichever process of a chain is killed, and whoever stops reading, all the others end by
// themselves.
import { type ChildProcess, spawn, spawnSync } from 'node:child_process'
import { once } from 'node:events'
import { mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { delimiter, join } from 'node:path'
import { createInterface } from 'node:readline'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { findNatsServer } from '../../cluster/nats-server.ts'
import { until } from '../../waiting.ts'
import { isAlive } from './carillon-process.ts'

const mustRun = process.env['CARILLON_CI'] === '1'
const root = new URL('../../..', import.meta.url).pathname
const ENDED_MS_MAX = 20_000
const oldNode = findOldNode()
let data: string
let started: ChildProcess[]
let seen: number[]

beforeEach(() => {
  data = mkdtempSync(join(tmpdir(), 'carillon-orphans-'))
  started = []
  seen = []
})

afterEach(async () => {
  for (const child of started) child.kill('SIGKILL')
  await until('nothing of it is left', () => !seen.some(isAlive), ENDED_MS_MAX)
  rmSync(data, { recursive: true, force: true, maxRetries: 10 })
})

describe.skipIf(('reason' in findNatsServer() && !mustRun) || process.platform !== 'linux')('a system', () => {
  const npm = ['npm', 'start', '--']
  test.each([
    ['npm', npm, 'SIGTERM', /^npm/],
    ['npm', npm, 'SIGKILL', /^npm/],
    ['the shell of npm', npm, 'SIGKILL', /^sh -c node/],
    ['the launcher', npm, 'SIGKILL', /^node services/],
  ] as const)('ends, its nats-server too, when %s is ended (%#)', async (_, command, signal, victim) => {
    await endsWith(command, signal, victim)
  })

  test.skipIf(oldNode === undefined).each([
    ['of the system', /^\S+ services\/carillon\.mjs/],
    ['that it was handed over to', /^\S+node-linux\S+ /],
  ] as const)('ends when the Node %s is killed', async (_, victim) => {
    await endsWith([oldNode!, 'services/carillon.mjs', 'start'], 'SIGKILL', victim)
  })

  test('ends when nobody reads what it says', async () => {
    const child = await startSystem([process.execPath, 'services/carillon.mjs', 'start'])
    child.stdout!.destroy()
    child.stderr!.destroy()
    const querier = seen.find((pid) => commandOf(pid).includes('querier'))
    process.kill(querier!, 'SIGKILL') // which the launcher has to tell
    await until('all of it has ended', () => !seen.some(isAlive), ENDED_MS_MAX)
  })

  test('END-4: ends when whoever reads what it says has read enough', async () => {
    const start = `node services/carillon.mjs start --listen=127.0.0.1:0 --data='${data}'`
    const shell = startProcess(['bash', '-c', `${start} | head -1`])
    shell.stderr!.resume()
    const lines = createInterface({ input: shell.stdout! })
    expect(await once(lines, 'line')).toEqual(['carillon is ready'])
    seen = treeOf(shell.pid!)
    await until('all of it has ended', () => !seen.some(isAlive), ENDED_MS_MAX)
  })

  test('START-1: ends with its launcher though an actor hangs', async () => {
    const child = await startSystem([process.execPath, 'services/carillon.mjs', 'start'])
    process.kill(seen.find((pid) => commandOf(pid).includes('querier'))!, 'SIGSTOP')
    child.kill('SIGKILL')
    await until('all of it has ended', () => !seen.some(isAlive), ENDED_MS_MAX)
  })

  test('GUARD-2: runs on without the guard of its nats-server, and has another one', async () => {
    const child = await startSystem([process.execPath, 'services/carillon.mjs', 'start'])
    const [guard] = guardsOf(child)
    process.kill(guard!, 'SIGKILL')
    await until('there is another one', () => guardsOf(child).some((pid) => pid !== guard))
    seen.push(...guardsOf(child))
    child.kill('SIGKILL')
    await until('all of it has ended', () => !seen.some(isAlive), ENDED_MS_MAX)
  })

  test('SERVER-1: a nats-server that was left all the same is stopped by the next start, which takes over', async () => {
    const first = await startSystem([process.execPath, 'services/carillon.mjs', 'start'])
    const server = seen.find((pid) => commandOf(pid).includes('server.conf'))!
    const address = () => JSON.parse(readFileSync(join(data, 'nats/running.json'), 'utf8')).port
    const before = address()
    process.kill(guardsOf(first)[0]!, 'SIGKILL')
    first.kill('SIGKILL')
    await until('the actors have ended', () => seen.filter(isAlive).length === 1)
    expect(isAlive(server)).toBe(true)
    const second = await startSystem([process.execPath, 'services/carillon.mjs', 'start'])
    expect(isAlive(server)).toBe(false)
    expect(address()).toBe(before) // SERVER-2
    second.kill('SIGTERM')
  })

  function guardsOf(launcher: ChildProcess): number[] {
    return childrenOf(launcher.pid!).filter((pid) => commandOf(pid).startsWith('sh -c trap'))
  }
})

describe.skipIf(process.platform !== 'linux')('the test runner', () => {
  const runner = () =>
    startProcess([process.execPath, 'services/carillon.mjs', 'test', 'test/services/cli/words.test.ts'])
  const isVitest = (pid: number) => /vitest\.mjs run/.test(commandOf(pid))

  test('says what crashed, and which tests it had not finished', async () => {
    const child = runner()
    let said = ''
    for (const stream of [child.stdout!, child.stderr!])
      stream.on('data', (text) => {
        said += text
      })
    const ended = new Promise<number | null>((resolve) => child.once('close', resolve))
    await until('tests have begun', () => treeOf(child.pid!).some(isTest))
    seen = treeOf(child.pid!)
    process.kill(seen.find(isVitest)!, 'SIGKILL')
    expect(await ended).toBe(1)
    expect(said).toContain('the test runner ended before its tests: killed by SIGKILL')
    expect(said).toContain('not finished: test/services/cli/words.test.ts')
    expect(said).toMatch(/0 passed, 1 failed, 0 skipped\n$/)
    await until('all of it has ended', () => !seen.some(isAlive), ENDED_MS_MAX)
  })

  test('ends with all it has started when whoever started it is killed', async () => {
    const child = runner()
    await until('tests have begun', () => treeOf(child.pid!).some(isTest))
    seen = treeOf(child.pid!)
    child.kill('SIGKILL')
    await until('all of it has ended', () => !seen.some(isAlive), ENDED_MS_MAX)
  })

  /** What the tests of words.test.ts start. */
  function isTest(pid: number): boolean {
    return /carillon\.mjs (?!test)/.test(commandOf(pid))
  }
})

async function endsWith(command: readonly string[], signal: NodeJS.Signals, victim: RegExp): Promise<void> {
  await startSystem(command)
  const found = seen.find((pid) => victim.test(commandOf(pid)))
  expect(found, seen.map(commandOf).join('\n')).toBeDefined()
  process.kill(found!, signal)
  await until('all of it has ended', () => !seen.some(isAlive), ENDED_MS_MAX)
}

function startProcess([file, ...args]: readonly string[]): ChildProcess {
  const child = spawn(file!, args, { cwd: root, stdio: ['ignore', 'pipe', 'pipe'] })
  started.push(child)
  return child
}

/** Resolves when it is ready, with all of its processes in `seen`. */
async function startSystem(command: readonly string[]): Promise<ChildProcess> {
  const child = startProcess([...command, '--listen=127.0.0.1:0', `--data=${data}`, '--output=json'])
  child.stderr!.resume()
  await new Promise<void>((resolve, reject) => {
    createInterface({ input: child.stdout! }).on('line', (line) => line.startsWith('{') && resolve())
    child.once('exit', (code) => reject(new Error(`it ended with ${code} before it was ready`)))
  })
  seen = treeOf(child.pid!)
  return child
}

function treeOf(pid: number): number[] {
  return [pid, ...childrenOf(pid).flatMap(treeOf)]
}

function childrenOf(pid: number): number[] {
  return readdirSync('/proc')
    .filter((name) => /^\d+$/.test(name) && parentOf(name) === pid)
    .map(Number)
}

function parentOf(pid: string): number {
  const stat = readOrNothing(`/proc/${pid}/stat`)
  return Number(stat.slice(stat.lastIndexOf(')') + 2).split(' ')[1])
}

function commandOf(pid: number): string {
  return readOrNothing(`/proc/${pid}/cmdline`).split('\0').join(' ').trim()
}

/** Nothing of a process that has ended. */
function readOrNothing(file: string): string {
  try {
    return readFileSync(file, 'utf8')
  } catch {
    return ''
  }
}

/** A Node of the system that is too old, so that it hands over to ours. */
function findOldNode(): string | undefined {
  const folders = (process.env['PATH'] ?? '').split(delimiter).filter((folder) => !folder.includes('node_modules'))
  return folders.map((folder) => join(folder, 'node')).find((file) => isOld(file))
}

function isOld(file: string): boolean {
  const { status, stdout } = spawnSync(file, ['--version'], { encoding: 'utf8' })
  return status === 0 && Number(/^v(\d+)/.exec(stdout)?.[1]) < 26
}
