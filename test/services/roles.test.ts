// The table of roles: what is made from it is the same everywhere, and asking it costs nothing.
import { spawnSync } from 'node:child_process'
import path from 'node:path'
import { expect, it } from 'vitest'
import { needs, roleNames, roles } from '../../services/roles.ts'

const root = path.resolve(import.meta.dirname, '../..')

/** Files of services that a process has loaded after it has done `work`. */
function loadedBy(work: string): string[] {
  const script = `
    import { registerHooks } from 'node:module'
    const loaded = []
    registerHooks({ load: (url, context, next) => (loaded.push(url), next(url, context)) })
    const { roles } = await import('./services/roles.ts')
    ${work}
    console.log(JSON.stringify(loaded))`
  const { stdout, stderr } = spawnSync(process.execPath, ['--input-type=module', '-e', script], {
    cwd: root,
    encoding: 'utf8',
  })
  expect(stderr).toBe('')
  const urls = JSON.parse(stdout) as string[]
  return urls.flatMap((url) => /services\/(\w+\/.*)$/.exec(url)?.[1] ?? [])
}

it('the table itself loads no service', () => {
  expect(loadedBy('')).toEqual([])
})

it.each(roleNames)('%s loads its own room and no other', (role) => {
  const rooms = loadedBy(`await Promise.all([roles.${role}.settings(), roles.${role}.make()])`).map(
    (file) => file.split('/')[0],
  )
  expect(new Set(rooms)).toEqual(new Set([role]))
})

it('a gateway asks for whoever takes writes, answers reads and holds partitions, and for no other', () => {
  expect(needs).toEqual([
    { role: 'distributor', duty: 'writes' },
    { role: 'querier', duty: 'reads' },
    { role: 'ingester', duty: 'partitions' },
  ])
  expect(roles.compactor.duty).toBeUndefined()
})
