// compose.yaml is read by docker-compose itself: a file that nobody can start is worse than none.
import { spawnSync } from 'node:child_process'
import { expect, test } from 'vitest'
import { root } from './sources.ts'

const compose = ['docker-compose', 'docker'].find((file) => spawnSync(file, composeArgs(file, 'version')).status === 0)
const mustRun = process.env['CARILLON_CI'] === '1'

function composeArgs(file: string, ...rest: string[]): string[] {
  return file === 'docker' ? ['compose', ...rest] : rest
}

test.skipIf(compose === undefined && !mustRun)('compose.yaml names services that compose can start', () => {
  const file = compose ?? 'docker-compose'
  const run = spawnSync(file, composeArgs(file, '-f', 'compose.yaml', 'config', '--services'), {
    cwd: root,
    encoding: 'utf8',
  })
  expect(run.stderr).not.toMatch(/error|invalid/i)
  expect(run.status).toBe(0)
  const services = run.stdout.trim().split('\n')
  for (const name of ['nats', 'gateway', 'distributor', 'querier', 'compactor', 'prometheus'])
    expect(services).toContain(name)
})
