// Each command of the README and the documents does what it says when it is pasted: in the folder of a running start, and from
// elsewhere with --gateway.
import { spawn, spawnSync } from 'node:child_process'
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { roleNames } from '../../services/roles.ts'
import { pushUntilTaken, sample } from './client.ts'
import { natsFlags } from './nats-place.ts'
import { findNatsServer } from './nats-server.ts'
import { freePort, type System, startSystem } from './system.ts'

const ROOT = new URL('../..', import.meta.url).pathname
const nats = findNatsServer()
const missing = 'reason' in nats ? nats.reason : undefined
const mustRun = process.env['CARILLON_CI'] === '1'

const TENANTS = ['acme', 'globex', 'team-a']
const withoutCurl = spawnSync('curl', ['--version']).status === 0 ? '' : 'curl|'
/** Not ours, or they run until they are told to stop: other tests start these. */
const NOT_RUN = new RegExp(
  `^(${withoutCurl}npm|export|nats|nats-server|git|docker|promtool)\\b|^curl .*:9090/|^(carillon|node services/carillon.mjs) (start|cluster|setup|${roleNames.join('|')})\\b`,
)
const SNAPSHOT = '/var/lib/prometheus/snapshots/20260101T000000Z-0123456789abcdef'
const SOME_BLOCK = '01M808TX003T4JMP0P2DJ6Y2G7'
const SOME_DELETION = 'mwtqu8lhb099ae6d389d2f2b'

interface Block {
  readonly where: string
  readonly statements: readonly string[]
}

const documents = ['.', 'docs', 'docs/operations', 'docs/internals'].flatMap((folder) =>
  readdirSync(join(ROOT, folder))
    .filter((name) => name.endsWith('.md'))
    .map((name) => join(folder, name)),
)
const blocks = documents.flatMap(blocksIn).filter(({ statements }) => statements.some((each) => !NOT_RUN.test(each)))

function blocksIn(file: string): Block[] {
  const lines = readFileSync(join(ROOT, file), 'utf8').split('\n')
  return lines.flatMap((line, index) => {
    if (line !== '```sh') return []
    const end = lines.indexOf('```', index)
    return [{ where: `${file}:${index + 1}`, statements: statementsIn(lines.slice(index + 1, end)) }]
  })
}

/** A loop is one statement. */
function statementsIn(lines: readonly string[]): string[] {
  const statements: string[] = []
  let loop: string[] | undefined
  for (const line of lines.filter((each) => each.trim() !== '')) {
    if (line.startsWith('for ')) loop = []
    if (loop === undefined) statements.push(line)
    else loop.push(line)
    if (loop === undefined || line !== 'done') continue
    statements.push(loop.join('\n'))
    loop = undefined
  }
  return statements
}

describe.skipIf(missing !== undefined && !mustRun)('commands of the documents', () => {
  const folder = mkdtempSync(join(tmpdir(), 'carillon-readme-'))
  const elsewhere = join(folder, 'elsewhere')
  let system: System

  beforeAll(async () => {
    mkdirSync(elsewhere)
    const args = ['--segment-min=200ms', '--flush=200ms', '--log-bytes-max=64MiB']
    const env: Record<string, string> = 'path' in nats ? { CARILLON_NATS_SERVER: nats.path } : {}
    system = await startSystem({ dataDir: join(folder, 'data'), port: await freePort(), args, env })
    await fill()
    await sh(`carillon blocks download --tenant team-a ${folder}${SNAPSHOT}`)
    for (const replica of ['a', 'b']) {
      const labels = ['__replica__', replica, 'cluster', 'eu-1']
      await pushUntilTaken(system.url, { series: [sample('up', 1, labels, Date.now())] })
    }
  })
  afterAll(async () => {
    await system.stop()
    rmSync(folder, { recursive: true })
  }, 50_000)

  it.each(blocks)('$where', async ({ statements }) => {
    await fill()
    await sh(`carillon blocks download --tenant acme ${folder}/backup/acme`)
    const variables: string[] = []
    for (const statement of statements) {
      if (NOT_RUN.test(statement)) continue
      if (/^[A-Z]+=/.test(statement)) variables.push(statement)
      else {
        expect(statement, 'a command of ours').toMatch(/^(carillon|curl|for) /)
        const { code, err } = await sh(await made(`${variables.join('\n')}\n${statement}`))
        expect([statement, code, err]).toEqual([statement, 0, expect.not.stringContaining('carillon: ')])
      }
    }
  })

  it.each(['ring', 'limits get --tenant acme', 'limits history', 'compact --status', 'scrub --status'])(
    '%s says the same over a gateway and over NATS',
    async (command) => {
      await sh('carillon limits set query_series_max=200000 query_range_max=31d --tenant acme --by me')
      const said = async () => {
        return Promise.all(
          [`--gateway ${system.url}`, natsFlags(system.ready).join(' ')].map(async (way) => {
            const { out, code } = await sh(`carillon ${command} --output json ${way}`, elsewhere)
            expect(code).toBe(0)
            return shapeOf(JSON.parse(out))
          }),
        )
      }
      let shapes = await said()
      const isSame = () => JSON.stringify(shapes[0]) === JSON.stringify(shapes[1])
      for (let more = 0; more < 5 && !isSame(); more++) shapes = await said() // what is at work may end between the two
      expect(shapes[0]).toEqual(shapes[1])
    },
  )

  it('what a gateway alone can change it changes: marks, flushes, orders, limits, partitions', async () => {
    const way = `--gateway ${system.url}`
    for (const command of [
      'mark --wait 30s',
      'flush --wait 30s',
      'compact --now --tenant acme',
      'scrub --now --tenant acme',
      'limits set query_timeout_max=30s --tenant globex --by somebody',
      'partitions add 1',
    ]) {
      const { code, err } = await sh(`carillon ${command} ${way}`, elsewhere)
      expect([command, code, err]).toEqual([command, 0, ''])
    }
    const { out } = await sh(`carillon limits history --tenant globex ${way}`, elsewhere)
    expect(out).toMatch(/^VERSION .*\n1 .* who says: somebody +query_timeout_max=30s\n$/)
  })

  it('where nothing answers that is said in one line, with how to name what does', async () => {
    const { code, out, err } = await sh('carillon ring --nats nats://127.0.0.1:1', elsewhere)
    expect([code, out]).toEqual([1, ''])
    expect(err).toMatch(/^carillon: no connection to nats:\/\/127\.0\.0\.1:1 within 10000 ms: .*refused.*\n$/i)
  })

  /** Blocks and recent samples of each tenant. */
  async function fill(): Promise<void> {
    const series = ['up', 'load'].map((name, i) => sample(name, i, ['job', 'old'], Date.now() - 1_000))
    for (const tenant of TENANTS) await pushUntilTaken(system.url, { series }, { tenant })
    expect((await sh('carillon flush')).code).toBe(0)
  }

  /** What stands in the documents for something of the reader's own. */
  async function made(text: string): Promise<string> {
    let line = text
      .replaceAll('http://127.0.0.1:9009', system.url)
      .replaceAll(/(?<= )\/(?=backup\/|var\/)/g, `${folder}/`)
    if (line.includes(SOME_BLOCK)) {
      const { out } = await sh('carillon blocks list --tenant acme --output json')
      line = line.replaceAll(SOME_BLOCK, JSON.parse(out).blocks[0].ulid)
    }
    if (!line.includes(SOME_DELETION)) return line
    const { out } = await sh('carillon delete list --tenant acme --output json')
    return line.replaceAll(SOME_DELETION, JSON.parse(out)[0].id)
  }

  function sh(text: string, cwd = folder): Promise<{ code: number | null; out: string; err: string }> {
    const carillon = `'${process.execPath}' '${ROOT}services/carillon.mjs'`
    const script = `carillon() { ${carillon} "$@"; }\ncurl() { command curl -fsS "$@"; }\n${text}`
    const child = spawn('bash', ['-e', '-c', script], { cwd, stdio: ['ignore', 'pipe', 'pipe'] })
    let [out, err] = ['', '']
    child.stdout.on('data', (piece) => {
      out += piece
    })
    child.stderr.on('data', (piece) => {
      err += piece
    })
    return new Promise((resolve, reject) => {
      child.once('error', reject)
      child.once('close', (code) => resolve({ code, out, err }))
    })
  }
})

/** Names and kinds, without what differs from one moment, asker and member to the next. */
function shapeOf(value: unknown): unknown {
  if (Array.isArray(value)) return value.length === 0 ? [] : [shapeOf(value[0])]
  if (typeof value !== 'object' || value === null) return typeof value
  return Object.fromEntries(
    Object.entries(value)
      .map(([name, each]): [string, unknown] => [name, shapeOf(each)])
      .sort(([a], [b]) => (a < b ? -1 : 1)),
  )
}
