// compose.yaml is read by docker-compose itself: a file that nobody can start is worse than none.
import { spawnSync } from 'node:child_process'
import fs from 'node:fs'
import path from 'node:path'
import { expect, test } from 'vitest'
import { parse } from 'yaml'
import { z } from 'zod'
import { roleNames, roles } from '../../services/roles.ts'
import { defaultsOf } from '../../shared/config/settings.ts'
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
  for (const name of ['nats', 'setup', 'prometheus']) expect(services).toContain(name)
})

const shape = z.object({
  services: z.record(
    z.string(),
    z.object({
      command: z.union([z.string(), z.array(z.string())]).optional(),
      environment: z.record(z.string(), z.string()).optional(),
    }),
  ),
})
const { services } = shape.parse(parse(fs.readFileSync(path.join(root, 'compose.yaml'), 'utf8'), { merge: true }))
const commands = Object.values(services).flatMap(({ command, environment = {} }) => {
  const words = typeof command === 'string' ? /^node services\/carillon\.mjs (\w+)/.exec(command) : null
  return words === null ? [] : [{ name: words[1]!, environment }]
})

test('compose.yaml runs each role, and nothing else but the set-up', () => {
  expect(new Set(commands.map(({ name }) => name))).toEqual(new Set([...roleNames, 'setup']))
})

test.each(roleNames)('compose.yaml runs %s with the variables that its process needs', async (role) => {
  const { settings, process: needsOf } = roles[role]
  const { env = {} } = (await needsOf?.())?.(defaultsOf(await settings()) as never) ?? {}
  for (const { environment } of commands.filter(({ name }) => name === role)) expect(environment).toMatchObject(env)
})
