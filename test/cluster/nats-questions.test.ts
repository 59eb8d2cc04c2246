// The questions of docs/queries-over-nats.md, asked as that page says, by clients that know nothing of Carillon.
import { execFile } from 'node:child_process'
import { readFileSync } from 'node:fs'
import { promisify } from 'node:util'
import { Encoder } from 'cbor-x'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { QUERY_KINDS } from '../../shared/contracts/query.ts'
import { ask, pushUntilTaken, sample, valuesOf } from './client.ts'
import { reachOf } from './nats-place.ts'
import { connectPlain, type PlainNats } from './nats-plain.ts'
import { findNatsServer } from './nats-server.ts'
import { type System, startSystem } from './system.ts'

const root = new URL('../..', import.meta.url).pathname
const page = readFileSync(`${root}docs/queries-over-nats.md`, 'utf8')
const found = findNatsServer()
if ('reason' in found) console.warn(`skipped: questions over NATS: ${found.reason}`)

function block(language: string): string {
  const text = new RegExp(`^\`\`\`${language}\\n([\\s\\S]*?)^\`\`\``, 'm').exec(page)?.[1]
  if (text === undefined) throw new Error(`the page has no example in ${language}`)
  return text
}

describe.skipIf('reason' in found && process.env['CARILLON_CI'] !== '1')('docs/queries-over-nats.md', () => {
  const cbor = new Encoder({ useRecords: false })
  const seconds = Math.floor(Date.now() / 1000)
  let system: System
  let nats: PlainNats

  beforeAll(async () => {
    system = await startSystem()
    nats = await connectPlain(system.ready)
    const series = [sample('up', 1), sample('up', 0, ['job', 'b'], seconds * 1000)]
    await pushUntilTaken(system.url, { series, metadata: [{ name: 'up', type: 'gauge', help: 'Lives.', unit: '' }] })
    await pushUntilTaken(system.url, { series: [sample('up', 7, [], seconds * 1000)] }, { tenant: 'team.a' })
    expect(await valuesOf(system.url, 'up')).toHaveLength(2)
    expect(await valuesOf(system.url, 'up', { tenant: 'team.a' })).toEqual(['7'])
  })
  afterAll(async () => {
    await nats?.close()
    await system?.stop()
  })

  const isUp = (body: string) => {
    const { status, data } = JSON.parse(body)
    expect(status).toBe('success')
    expect(data.resultType).toBe('vector')
    expect(data.result.map((each: { value: string[] }) => each.value[1]).sort()).toEqual(['0', '1'])
  }

  test('the example of a program runs and prints the answer', async () => {
    const { user = '', password = '' } = reachOf(system.ready)
    const running = promisify(execFile)(process.execPath, ['--input-type=module', '--eval', block('js')], {
      cwd: root,
      env: { ...process.env, NATS_URL: system.ready.nats, NATS_USER: user, NATS_PASSWORD: password },
    })
    isUp((await running).stdout)
  })

  test('the example of a prompt is answered', async () => {
    const [, subject = '', payload = ''] = /^nats req (\S+) '(.*)'$/m.exec(block('sh')) ?? []
    expect({ subject, payload }).toEqual({ subject: 'cln.query.anonymous.instant', payload: '{"query":"up"}' })
    isUp(Buffer.from((await nats.request(subject, payload)).bytes).toString())
  })

  const time = String(seconds)
  const window = { start: String(seconds - 60), end: String(seconds) }
  const questions = {
    instant: ['/api/v1/query', { query: 'up{job="b"}', time }],
    range: ['/api/v1/query_range', { query: 'up{job="b"}', ...window, step: '15' }],
    series: ['/api/v1/series', { match: ['up'], ...window }],
    labels: ['/api/v1/labels', window],
    label_values: ['/api/v1/label/job/values', { name: 'job', ...window }],
    metadata: ['/api/v1/metadata', { metric: 'up' }],
    exemplars: ['/api/v1/query_exemplars', { query: 'up', ...window }],
    format: ['/api/v1/format_query', { query: 'sum(up)by(job)' }],
    parse: ['/api/v1/parse_query', { query: 'sum(up)by(job)' }],
    tsdb: ['/api/v1/status/tsdb', { limit: '3' }],
    cardinality_label_names: ['/api/v1/cardinality/label_names', { selector: '{job="b"}' }],
    cardinality_active_series: ['/api/v1/cardinality/active_series', { selector: '{job="b"}' }],
    features: ['/api/v1/features', {}],
  } as const
  /** Not JSON, lists under other names, or not part of the query API: asked by tests of their own. */
  const others = ['federate', 'read', 'cardinality_label_values', 'delete_preview']

  test('every kind is on the page and in the list below', () => {
    expect([...Object.keys(questions), ...others].sort()).toEqual([...QUERY_KINDS].sort())
    for (const [kind, [path]] of Object.entries(questions)) {
      expect(page).toContain(`- \`${kind}\` (\`${path.replace('/job/', '/<name>/')}\`)`)
    }
  })

  test.each(Object.entries(questions))(
    '%s answers what HTTP answers, in JSON and in CBOR',
    async (kind, [path, given]) => {
      const subject = `cln.query.anonymous.${kind}`
      const { match, name: _, ...rest } = given as { match?: readonly string[]; name?: string }
      const { status, body } = await ask(system.url, path, { ...rest, ...(match && { 'match[]': match }) })
      expect(status).toBe(200)
      const json = await nats.request(subject, JSON.stringify(given))
      expect(JSON.parse(Buffer.from(json.bytes).toString())).toEqual(body)
      const asCbor = await nats.request(subject, cbor.encode(given), { 'Content-Type': 'application/cbor' })
      expect(cbor.decode(asCbor.bytes)).toEqual(body)
    },
  )

  test('another tenant is another token', async () => {
    const answer = await nats.request('cln.query.team_2Ea.instant', JSON.stringify({ query: 'up', time }))
    expect(JSON.parse(Buffer.from(answer.bytes).toString()).data.result).toEqual([
      { metric: { __name__: 'up' }, value: [seconds, '7'] },
    ])
  })

  test.each([
    ['no JSON', 'cln.query.anonymous.instant', 'up', 'bad_data'],
    ['no query', 'cln.query.anonymous.instant', '{}', 'bad_data'],
    ['a syntax error', 'cln.query.anonymous.instant', '{"query":"sum("}', 'bad_data'],
    ['an unknown kind', 'cln.query.anonymous.guess', '{}', 'bad_data'],
    ['a malformed tenant', 'cln.query.team_a.instant', '{"query":"up"}', 'bad_data'],
  ])('%s is answered in the shape of the API', async (_, subject, payload, errorType) => {
    const answer = JSON.parse(Buffer.from((await nats.request(subject, payload)).bytes).toString())
    expect(answer).toMatchObject({ status: 'error', errorType })
    expect(answer.error).not.toBe('')
  })
})
