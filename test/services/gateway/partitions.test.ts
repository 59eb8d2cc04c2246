// Partitions over HTTP: how many more is said as a number, or nothing is added.
import { afterEach, expect, test } from 'vitest'
import { type System, startSystem } from './system.ts'

let system: System
afterEach(() => system.stop())

test('partitions are added by a whole number from 1 on, and by nothing else', async () => {
  system = await startSystem()
  for (const query of ['', '?add=', '?add=0', '?add=-1', '?add=1.5', '?add=two', '?add=99999999']) {
    const response = await fetch(`${system.url}/api/v1/admin/partitions${query}`, { method: 'POST' })
    expect([query, response.status]).toEqual([query, 400])
  }
  expect((await fetch(`${system.url}/api/v1/admin/partitions?add=1`)).status).toBe(405)
})
