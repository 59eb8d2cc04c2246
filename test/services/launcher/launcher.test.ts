import fs from 'node:fs'
import net from 'node:net'
import path from 'node:path'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { runCarillon } from '../../cluster/carillon-command.ts'
import { reachOf } from '../../cluster/nats-place.ts'
import { connectPlain } from '../../cluster/nats-plain.ts'
import { until } from '../../waiting.ts'
import { isAlive, type Launched, launch, type Ready, startArgs, temporaryFolder } from './carillon-process.ts'

const hasServer = process.env['CARILLON_NATS_SERVER'] !== undefined || process.env['CARILLON_CI'] === '1'

describe.runIf(hasServer)('carillon start', () => {
  let data: string
  let launched: Launched[]
  let seen: Ready[]

  beforeEach(() => {
    data = temporaryFolder()
    launched = []
    seen = []
  })

  afterEach(async () => {
    for (const { child } of launched) child.kill('SIGTERM')
    await Promise.all(launched.map(({ ended }) => ended))
    for (const { pid } of seen.flatMap((ready) => ready.processes)) if (isAlive(pid)) process.kill(pid, 'SIGKILL')
    fs.rmSync(data, { recursive: true, force: true, maxRetries: 10 })
  })

  function start(...more: string[]): Launched {
    const one = launch(startArgs(data, ...more))
    launched.push(one)
    return one
  }

  async function ready(one: Launched): Promise<Ready> {
    const facts = await one.ready
    seen.push(facts)
    return facts
  }

  const pidOf = (facts: Ready, role: string): number => facts.processes.find((each) => each.role === role)?.pid ?? 0

  it('START-3: says in one line where to push, where to query, what is safe and which processes run; SIGTERM ends all', async () => {
    const one = start()
    const facts = await ready(one)
    expect(facts).toMatchObject({ ready: true, durability: 'power-loss-safe', push: `${facts.query}/api/v1/push` })
    expect(facts.processes.map(({ role }) => role).sort()).toEqual([
      'compactor',
      'distributor',
      'gateway',
      'ingester',
      'nats-server',
      'querier',
    ])
    expect((await fetch(`${facts.query}/-/healthy`)).status).toBe(200)
    expect(facts.processes.every(({ pid }) => isAlive(pid))).toBe(true)
    one.child.kill('SIGTERM')
    expect(await one.ended).toEqual({ code: 0, signal: null })
    expect(facts.processes.filter(({ pid }) => isAlive(pid))).toEqual([])
    expect(fs.existsSync(path.join(data, 'lock.json'))).toBe(false)
  })

  it('FOLDER-2: a second start on the same folder is refused and names the first', async () => {
    const facts = await ready(start())
    const second = start()
    expect((await second.ended).code).toBe(1)
    expect(second.stderr()).toContain(`in use by process ${facts.launcher}`)
    expect(second.stderr()).toContain(facts.query)
    expect((await fetch(`${facts.query}/-/healthy`)).status).toBe(200)
  })

  it('SUPERVISOR-1: an actor and a nats-server that are killed come back by themselves', async () => {
    const one = start()
    const facts = await ready(one)
    const [gateway, server] = [pidOf(facts, 'gateway'), pidOf(facts, 'nats-server')]
    process.kill(server, 'SIGKILL')
    process.kill(pidOf(facts, 'querier'), 'SIGKILL')
    await until('both are seen to have ended', () => one.stderr().split('it ended by itself').length > 2)
    await until('the new querier is ready', () =>
      /"id":"querier-1"[^\n]*"ready"[\s\S]*"id":"querier-1"[^\n]*"ready"/.test(one.stderr()),
    )
    await until('the gateway answers', async () => (await fetch(`${facts.query}/ready`)).status === 200, 30_000)
    expect(isAlive(gateway)).toBe(true)
  })

  it('FOLDER-1: a folder in a newer format is refused and left as it is', async () => {
    fs.writeFileSync(path.join(data, 'carillon.json'), '{"format":999}')
    const one = start()
    expect((await one.ended).code).toBe(1)
    expect(one.stderr()).toContain('format 999, written by a newer Carillon')
    expect(fs.readdirSync(data)).toEqual(['carillon.json'])
  })

  it('SERVER-3: the logs of a single server are not taken for those of a cluster, nor the other way round', async () => {
    for (const [held, command, other] of [
      ['a', 'start', 'cluster'],
      ['nats-store', 'cluster', 'start'],
    ] as const) {
      const folder = path.join(data, command)
      fs.mkdirSync(path.join(folder, 'nats', held), { recursive: true })
      const one = launch([command, ...startArgs(folder).slice(1)])
      launched.push(one)
      expect((await one.ended).code).toBe(1)
      expect(one.stderr()).toContain(`carillon ${other}`)
    }
  })

  it('SERVER-4: its nats-server lets in only who can read the owner\u2019s file', async () => {
    const facts = await ready(start())
    expect(facts.natsUserFile).toBe(path.join(fs.realpathSync(data), 'nats', 'user'))
    for (const file of ['user', 'system-user', 'server.conf'])
      expect([file, fs.statSync(path.join(data, 'nats', file)).mode & 0o777]).toEqual([file, 0o600])
    await expect(connectPlain(facts.nats)).rejects.toThrow(/authorization violation/i)
    for (const { pid } of facts.processes) {
      const [line, own] = ['cmdline', 'environ'].map((name) => fs.readFileSync(`/proc/${pid}/${name}`, 'utf8'))
      const { password = '?' } = reachOf(facts)
      expect([line?.includes(password), own?.includes(password)]).toEqual([false, false])
    }
    const nats = await connectPlain(facts)
    const { bytes } = await nats.request('cln.query.anonymous.instant', '{"query":"1"}')
    expect(JSON.parse(Buffer.from(bytes).toString())).toMatchObject({ status: 'success' })
    await nats.close()
  })

  it('commands ask the system that runs on --data, or on --nats with the file of its user', async () => {
    const facts = await ready(start())
    const ring = (...flags: string[]) => runCarillon(['ring', '--output=json', ...flags])
    for (const flags of [[`--data=${data}`], [`--nats=${facts.nats}`, `--nats-user-file=${facts.natsUserFile}`]]) {
      const { code, out } = await ring(...flags)
      expect(code).toBe(0)
      expect(JSON.parse(out)).toMatchObject({ partitionCount: 1 })
    }
    const strange = await ring(`--nats=${facts.nats}`)
    expect(strange.code).toBe(1)
    expect(strange.errors).toContain('--nats-user-file')
    const nowhere = await ring(`--data=${path.join(data, 'nothing')}`)
    expect(nowhere.code).toBe(1)
    expect(nowhere.errors).toMatch(
      /^carillon: no gateway answers at .*--gateway URL, or the data folder of a running start\n$/,
    )
  })

  it('a port in use is named before anything starts', async () => {
    const server = net.createServer().listen(0, '127.0.0.1')
    await new Promise((resolve) => server.once('listening', resolve))
    const { port } = server.address() as net.AddressInfo
    const one = start(`--listen=127.0.0.1:${port}`)
    expect((await one.ended).code).toBe(1)
    expect(one.stderr()).toContain(`127.0.0.1:${port} is in use`)
    expect(fs.readdirSync(data)).toEqual([])
    server.close()
  })

  it('several of a role run, each by its own name, on a server that was there before', async () => {
    const facts = await ready(start())
    const other = temporaryFolder()
    const second = launch([
      ...startArgs(
        other,
        `--nats=${facts.nats}`,
        `--nats-user-file=${facts.natsUserFile}`,
        '--prefix=other',
        '--ingesters=2',
        '--replication-factor=2',
      ),
    ])
    launched.push(second)
    const its = await ready(second)
    expect(its.nats).toBe(facts.nats)
    expect(its.processes.map(({ id }) => id).sort()).toEqual([
      'compactor-1',
      'distributor-1',
      'gateway-1',
      'ingester-1',
      'ingester-2',
      'querier-1',
    ])
    second.child.kill('SIGTERM')
    expect((await second.ended).code).toBe(0)
    fs.rmSync(other, { recursive: true, force: true })
  })
})

describe('wrong command lines', () => {
  it.each([
    [['start', '--lisen=x'], '--lisen is unknown; did you mean --listen?'],
    [['gateway'], 'gateway wants --nats URL'],
    [['gatewy'], 'did you mean gateway?'],
    [['start', '--nats-server=/does/not/exist', '--data=/dev/null/x', '--listen=127.0.0.1:0'], 'data folder'],
    [['start', '--partitions=0'], 'wants a whole number from 1 to 1024'],
  ])('%j ends at once and says why', async (args, message) => {
    const one = launch(args)
    expect((await one.ended).code).toBeGreaterThan(0)
    expect(one.stderr()).toContain(message)
  })

  it('without any nats-server to be had, start ends with 2 and names the ways', async () => {
    const { findNatsServer } = await import('../../../services/launcher/nats-binary.ts')
    const cacheDir = temporaryFolder()
    const finding = findNatsServer({ searchPath: '', cacheDir, say: () => {} })
    await expect(finding).rejects.toMatchObject({ exitCode: 2 })
    await expect(finding).rejects.toThrow(/--nats nats:[\s\S]*--nats-server[\s\S]*on PATH[\s\S]*install Go/)
    await expect(findNatsServer({ given: '/bin/true', say: () => {} })).rejects.toMatchObject({ exitCode: 2 })
    fs.rmSync(cacheDir, { recursive: true })
  })
})
