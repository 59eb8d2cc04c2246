// `npm start` as a person or a supervisor runs it: what npm is told, reaches the launcher, though npm tells nobody.
import { spawn } from 'node:child_process'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { expect, test } from 'vitest'
import { findNatsServer } from '../../cluster/nats-server.ts'
import { until } from '../../waiting.ts'
import { isAlive } from './carillon-process.ts'

const mustRun = process.env['CARILLON_CI'] === '1'

test.skipIf('reason' in findNatsServer() && !mustRun)('SIGTERM to npm stops the whole system', async () => {
  const data = mkdtempSync(join(tmpdir(), 'carillon-npm-'))
  const root = new URL('../../..', import.meta.url).pathname
  const flags = ['--listen', '127.0.0.1:0', '--data', data, '--output', 'json']
  const npm = spawn('npm', ['start', '--', ...flags], { cwd: root, stdio: ['ignore', 'pipe', 'ignore'] })
  try {
    const ready = await new Promise<{ launcher: number; processes: { pid: number }[] }>((resolve, reject) => {
      createInterface({ input: npm.stdout }).on('line', (line) => line.startsWith('{') && resolve(JSON.parse(line)))
      npm.once('exit', () => reject(new Error('npm ended before the system was ready')))
    })
    npm.removeAllListeners('exit')
    const pids = [ready.launcher, ...ready.processes.map(({ pid }) => pid)]
    expect(pids.every(isAlive)).toBe(true)
    npm.kill('SIGTERM')
    await until('all of it has ended', () => !pids.some(isAlive), 30_000)
  } finally {
    npm.kill('SIGKILL')
    rmSync(data, { recursive: true, force: true })
  }
})
