// The shapes in which real clients send their questions: multipart forms, long URLs, base URLs that end in a slash.
import { afterEach, describe, expect, test } from 'vitest'
import { type System, startSystem } from './system.ts'

let system: System
afterEach(() => system.stop())

const start = async () => {
  system = await startSystem()
}

describe('a query', () => {
  test('may come as a multipart form; what is no form is 415, not passed over', async () => {
    await start()
    const body = new FormData()
    for (const [name, value] of [
      ['query', 'up{a="ä\\n"}'],
      ['time', '5'],
      ['match[]', 'a'],
    ] as const)
      body.append(name, value)
    body.append('limit', new Blob(['7']), 'a-file')
    const answer = await fetch(`${system.url}/api/v1/query?limit=3`, { method: 'POST', body })
    expect(answer.status).toBe(200)
    expect(system.queries.at(-1)?.params).toEqual({ query: 'up{a="ä\\n"}', time: '5', match: ['a'], limit: '3' })
    const post = (type: string, text: string) =>
      fetch(`${system.url}/api/v1/query`, { method: 'POST', headers: { 'Content-Type': type }, body: text })
    const part = (head: string, text = 'up') => `--B\r\n${head}\r\n\r\n${text}\r\n--B--\r\n`
    const named = 'Content-Disposition: form-data; name="query"'
    expect((await post('multipart/form-data; boundary="B"', `preamble\r\n${part(named, '')}`)).status).toBe(200)
    expect(system.queries.at(-1)?.params).toEqual({ query: '' })
    for (const [type, text, status] of [
      ['application/json', '{"query":"up"}', 415],
      ['text/plain', 'query=up', 415],
      ['application/json', '', 200],
      ['multipart/form-data', part(named), 415],
      ['multipart/form-data; boundary=', part(named), 400],
      ['multipart/form-data; boundary=C', part(named), 400],
      ['multipart/form-data; boundary=B', part('X: y'), 400],
      ['multipart/form-data; boundary=B', part(named).slice(0, -8), 400],
      ['multipart/form-data; boundary=B', `--B\r\n${named}`, 400],
      ['multipart/form-data; boundary=B', `${`--B\r\n${named}\r\n\r\nup\r\n`.repeat(20_001)}--B--`, 400],
    ] as const)
      expect([type, text.slice(0, 99), (await post(type, text)).status]).toEqual([type, text.slice(0, 99), status])
  })

  test('of a chained variable may have nearly a megabyte in its URL', async () => {
    await start()
    const match = `up{instance=~"(${'ip-10-0-0-1|'.repeat(75_000)})"}`
    const answer = await fetch(`${system.url}/api/v1/label/job/values?match[]=${match}`)
    expect(answer.status).toBe(200)
    expect(system.queries.at(-1)?.params.match?.[0]).toHaveLength(match.length)
  })

  test('finds its path under a base URL that ends in a slash', async () => {
    await start()
    for (const path of ['//api/v1/query', '/prometheus//api/v1/query', '///api//v1///query'])
      expect([path, (await fetch(`${system.url}${path}?query=up`)).status]).toEqual([path, 200])
    expect((await fetch(`${system.url}/api/v1/label//values`)).status).toBe(404)
  })
})
