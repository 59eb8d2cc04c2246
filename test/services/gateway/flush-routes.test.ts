// Marks and flushes over HTTP: every ingester is asked, and what one of them cannot say is told.
import { afterEach, expect, test } from 'vitest'
import { type System, startSystem } from './system.ts'

let system: System
afterEach(() => system.stop())

const post = async (path: string) => {
  const response = await fetch(`${system.url}${path}`, { method: 'POST' })
  return { status: response.status, body: (await response.json()) as { data?: unknown; error?: string } }
}

test('mark and flush ask every ingester and say what each leader has done', async () => {
  system = await startSystem({ members: { ingester: ['ingester-1', 'ingester-2'] } })
  const marked = await post('/api/v1/admin/mark')
  expect(marked.status).toBe(200)
  expect(marked.body.data).toMatchObject({ isDone: true, failures: [] })
  const flushed = await post('/api/v1/admin/flush?wait=1s')
  expect(flushed.body.data).toMatchObject({ isDone: false, failures: [] })
  expect((flushed.body.data as { partitions: unknown[] }).partitions).toContainEqual({
    ...{ partition: 1, leader: 'ingester-2', segment: 5, flushed: 3, isDone: false },
  })
})

test('without an ingester nothing is done, and a wait that is none is refused', async () => {
  system = await startSystem({ members: { ingester: [] } })
  expect((await post('/api/v1/admin/flush')).body.data).toEqual({ isDone: false, partitions: [], failures: [] })
  const refused = await post('/api/v1/admin/flush?wait=soon')
  expect(refused).toMatchObject({
    status: 400,
    body: { error: 'wait "soon" is not a duration up to 15m, such as 30s' },
  })
  expect((await fetch(`${system.url}/api/v1/admin/flush`)).status).toBe(405)
})
