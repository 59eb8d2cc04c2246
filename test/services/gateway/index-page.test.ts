// `/` links to what there is, and every link leads somewhere.
import { afterEach, expect, test } from 'vitest'
import { type System, startSystem } from './system.ts'

let system: System
afterEach(() => system.stop())

test('each link of / leads to something, every page leads back, and a path where nothing stands leads to /', async () => {
  system = await startSystem()
  const index = await fetch(`${system.url}/`)
  expect([index.status, index.headers.get('content-type')]).toEqual([200, 'text/html; charset=utf-8'])
  const links = [...(await index.text()).matchAll(/href="([^"]+)"/g)].map(([, href]) => href!)
  expect(links.length).toBeGreaterThan(10)
  for (const href of links) {
    const { status } = await fetch(new URL(href, `${system.url}/`))
    expect([href, status]).not.toEqual([href, 404])
  }
  for (const page of ['ring', 'ha', 'queries'])
    expect(await (await fetch(`${system.url}/${page}`)).text()).toContain('<a href="./">Carillon</a>')
  const missing = await fetch(`${system.url}/graph`)
  expect([missing.status, await missing.text()]).toEqual([404, expect.stringContaining('/ links to what there is')])
})
