// Row 9, with real processes: one bit of every file kind of a block is turned over, in a folder and in the files of a nats-server. A query
// answers an error or a warning, never a smaller result; the scrubber names block and file, and repairs from a second store, or from an
// owner's memory.
import { spawnSync } from 'node:child_process'
import { mkdtempSync, readdirSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import type { ScrubNowReply, ScrubRecord } from '../../shared/contracts/scrubbing.ts'
import { eventually, until, WAIT_MS } from '../waiting.ts'
import { ask, pushUntilTaken, sample } from './client.ts'
import { afterwards, cleanUpAfterEach, isSkipped, startOn, startServer } from './fault-ground.ts'
import { natsFlags } from './nats-place.ts'
import { findNatsServer } from './nats-server.ts'
import { killEverything, killOne } from './processes.ts'
import { pidOf, type System, startSystem } from './system.ts'

cleanUpAfterEach()
const found = findNatsServer()
const ROOT = new URL('../..', import.meta.url).pathname
const SERIES = 300
const flushing = [
  '--partitions=1',
  '--segment-min=500ms',
  '--flush=200ms',
  '--compact-delay=100d',
  '--part-cache-bytes-max=0',
]
const KINDS = { meta: 'meta.json', index: 'index', chunks: 'chunks/000001' } as const
type Kind = keyof typeof KINDS
const KIND_NAMES = Object.keys(KINDS) as Kind[]
/** One tenant for each kind of file, and one that is left alone. */
const TENANTS = [...KIND_NAMES, 'sound']
/** Values differ by tenant: files of the same bytes are one in the cache of a querier. */
const valueIn = (tenant: string, i: number): number => i + 1_000 * TENANTS.indexOf(tenant)
const totalOf = (tenant: string): string =>
  String(Array.from({ length: SERIES }, (_, i) => valueIn(tenant, i)).reduce((sum, value) => sum + value, 0))

test.skipIf(isSkipped)(
  'row 9: damage of every file in a folder is an error or a warning, named by scrubs, and repaired from the second store',
  async () => {
    const dir = mkdtempSync(join(tmpdir(), 'carillon-scrub-'))
    afterwards(() => rmSync(dir, { recursive: true, force: true }))
    const second = join(dir, 'second')
    const system = await started([
      ...['--drop-after=500ms', '--objects=directory', `--objects-dir=${join(dir, 'objects')}`],
      ...[`--second-store=directory:${second}`, '--second-store-every=200ms'],
    ])
    const blocks = await flushed(system)
    await eventually('everything is copied', WAIT_MS, async () => {
      const { data } = await get(system, '/api/v1/status/scrub')
      return data.compactors.every((each: { notCopied: number }) => each.notCopied === 0) || undefined
    })
    for (const kind of KIND_NAMES) flipMiddle(join(dir, 'objects', kind, blocks[kind]!, `${KINDS[kind]}@`))
    renameSync(second, `${second}.away`)
    const pid = pidOf(system, 'querier-1')
    killOne(system, 'querier-1') // it holds pieces in memory that it has checked
    await until('another querier runs', () => pidOf(system, 'querier-1') !== pid)
    await everyQueryIsTold(system, KIND_NAMES)

    const before = scrub(system)
    expect(before.exitCode).toBe(1)
    for (const kind of KIND_NAMES) {
      const findings = before.records.find(({ tenant }) => tenant === kind)!.findings
      expect(findings.every(({ ulid, state }) => ulid === blocks[kind] && state === 'damaged')).toBe(true)
      expect(findings.map(({ file }) => file)).toContain(KINDS[kind])
    }
    expect(before.records.find(({ tenant }) => tenant === 'sound')!.findings).toEqual([])
    const { data } = await get(system, '/api/v1/status/compaction')
    expect(data.compactors[0].aside.map(({ ulid }: { ulid: string }) => ulid)).toEqual(
      expect.arrayContaining(KIND_NAMES.map((kind) => blocks[kind])),
    )
    const metrics = await (await fetch(`${system.url}/metrics`)).text()
    expect(metrics).toMatch(/carillon_scrub_damaged\{[^}]*tenant="chunks"[^}]*\} [1-9]/)

    renameSync(`${second}.away`, second)
    const after = scrub(system)
    expect(after.exitCode).toBe(0)
    for (const kind of KIND_NAMES)
      for (const { state, from } of after.records.find(({ tenant }) => tenant === kind)!.findings)
        expect([state, from]).toEqual(['repaired', 'the second store'])
    for (const tenant of TENANTS)
      expect(await told(system, tenant)).toEqual({ value: totalOf(tenant), isWarned: false })
    expect(scrub(system).records.flatMap(({ findings }) => findings)).toEqual([])
  },
)

test.skipIf(isSkipped)('row 9: what an owner still holds is made again from its memory, byte for byte', async () => {
  const dir = mkdtempSync(join(tmpdir(), 'carillon-scrub-'))
  afterwards(() => rmSync(dir, { recursive: true, force: true }))
  const objects = join(dir, 'objects')
  const system = await started(['--drop-after=1h', '--objects=directory', `--objects-dir=${objects}`])
  const blocks = await flushed(system)
  const fileOf = (kind: Kind) => join(objects, kind, blocks[kind]!, `${KINDS[kind]}@`)
  const whole = new Map(KIND_NAMES.map((kind) => [kind, readFileSync(fileOf(kind))]))
  for (const kind of KIND_NAMES)
    if (kind === 'index') rmSync(fileOf(kind))
    else flipMiddle(fileOf(kind))
  const { exitCode, records } = scrub(system)
  expect(exitCode).toBe(0)
  for (const kind of KIND_NAMES) {
    const { findings } = records.find(({ tenant }) => tenant === kind)!
    expect(new Set(findings.map(({ state, from }) => `${state} ${from}`))).toEqual(new Set(['repaired ingester-1']))
    expect(readFileSync(fileOf(kind)).equals(whole.get(kind)!)).toBe(true)
  }
})

test.skipIf(isSkipped)(
  'row 9: flipped bits in the files of a nats-server: every answer is whole, or says that it is not; scrubs say of whom',
  async () => {
    const server = await startServer()
    const args = [...flushing, '--drop-after=500ms', '--objects=jetstream']
    const system = await startOn(server, args)
    await flushed(system)
    await killEverything(system)
    await server.end()
    const flipped = flipObjects(server.storeDir)
    expect(flipped.length).toBe(KIND_NAMES.length)
    await server.restart()
    const again = await startOn(server, args)
    const outcomes = new Map<string, string>()
    for (const tenant of TENANTS) {
      const answer = await told(again, tenant)
      outcomes.set(
        tenant,
        answer.value === totalOf(tenant) ? 'whole' : answer.value === undefined ? 'error' : 'smaller',
      )
      if (answer.value !== totalOf(tenant))
        expect(await told(again, tenant, { partial_response: 'true' })).toMatchObject({ isWarned: true })
    }
    console.log(`row 9 in JetStream: ${JSON.stringify([...outcomes])}`)
    expect([...outcomes.values()]).not.toContain('smaller')
    expect(outcomes.get('chunks')).toBe('error')
    const { records } = scrub(again)
    for (const { tenant, findings } of records) {
      const isDamaged = findings.some(({ state, what }) => state === 'damaged' && what === 'block')
      expect([tenant, isDamaged]).toEqual([tenant, outcomes.get(tenant) === 'error'])
    }
  },
)

// ---- the system ----

async function started(args: readonly string[]): Promise<System> {
  const env: Record<string, string> = 'path' in found ? { CARILLON_NATS_SERVER: found.path } : {}
  const system = await startSystem({ args: [...flushing, ...args], env })
  afterwards(() => system.stop())
  return system
}

/** Writes one block for each tenant; their names. */
async function flushed(system: System): Promise<Record<string, string>> {
  const nowMs = Date.now() - 1_000
  for (const tenant of TENANTS) {
    const series = Array.from({ length: SERIES }, (_, i) =>
      sample('stored', valueIn(tenant, i), ['n', String(i), 'of', tenant], nowMs),
    )
    await pushUntilTaken(system.url, { series }, { tenant })
  }
  const flush = await fetch(`${system.url}/api/v1/admin/flush?wait=20s`, { method: 'POST' })
  expect(await flush.json()).toMatchObject({ data: { isDone: true } })
  for (const tenant of TENANTS)
    await eventually(
      `${tenant} is whole`,
      WAIT_MS,
      async () => (await told(system, tenant)).value === totalOf(tenant) || undefined,
    )
  const blocks: Record<string, string> = {}
  for (const tenant of TENANTS) {
    const list = await get(system, '/api/v1/blocks', { 'X-Scope-OrgID': tenant })
    expect(list.data.blocks.length).toBe(1)
    blocks[tenant] = list.data.blocks[0].ulid
  }
  return blocks
}

// biome-ignore lint/suspicious/noExplicitAny: the shape differs by path
async function get(system: System, path: string, headers: Record<string, string> = {}): Promise<any> {
  return (await fetch(`${system.url}${path}`, { headers })).json()
}

/** What a query of all that a tenant has says; no value when it is an error. */
async function told(system: System, tenant: string, more: Record<string, string> = {}) {
  const { status, body } = await ask(system.url, '/api/v1/query', { query: 'sum(stored)', ...more }, { tenant })
  if (status !== 200) return { value: undefined, isWarned: false, status, text: JSON.stringify(body) }
  return { value: body.data.result[0]?.value[1] as string | undefined, isWarned: (body.warnings ?? []).length > 0 }
}

async function everyQueryIsTold(system: System, damaged: readonly string[]): Promise<void> {
  await eventually(
    'the querier is back',
    WAIT_MS,
    async () => (await told(system, 'sound')).value === totalOf('sound') || undefined,
  )
  for (const tenant of damaged) {
    const answer = await told(system, tenant)
    expect(answer.text, tenant).toMatch(/err-carillon-block-damaged/)
    expect(await told(system, tenant, { partial_response: 'true' }), tenant).toMatchObject({ isWarned: true })
  }
}

/** `carillon scrub --now`. */
function scrub(system: System): { exitCode: number | null; records: readonly ScrubRecord[] } {
  const args = ['services/carillon.mjs', 'scrub', '--now', ...natsFlags(system.ready), '--output=json']
  const { stdout, stderr, status } = spawnSync(process.execPath, args, { cwd: ROOT, encoding: 'utf8' })
  expect(stderr).toBe('')
  const reply = JSON.parse(stdout) as ScrubNowReply
  expect(reply).toMatchObject({ isDone: true, elsewhere: [] })
  return { exitCode: status, records: reply.tenants }
}

// ---- damage ----

function flipMiddle(file: string): void {
  const bytes = readFileSync(file)
  const at = Math.floor(bytes.length / 3) // before what describes the object
  bytes[at] = bytes[at]! ^ 4
  writeFileSync(file, bytes)
}

/** One bit of one part of one file for each kind, in the stores of JetStream; what was found. */
function flipObjects(storeDir: string): string[] {
  const flipped: string[] = []
  const streams = join(storeDir, 'jetstream', 'APP', 'streams')
  for (const stream of readdirSync(streams).filter((name) => name.startsWith('OBJ_') && !name.endsWith('-meta'))) {
    const dir = join(streams, stream, 'msgs')
    for (const name of readdirSync(dir).filter((each) => each.endsWith('.blk'))) {
      const file = join(dir, name)
      const bytes = readFileSync(file)
      for (const kind of KIND_NAMES) {
        const nuid = nuidOf(bytes, kind)
        const at = nuid === undefined ? -1 : bytes.indexOf(`.C.${nuid}`)
        if (nuid === undefined || at < 0) continue
        const inPart = at + 3 + nuid.length + 20
        bytes[inPart] = bytes[inPart]! ^ 4
        flipped.push(kind)
      }
      writeFileSync(file, bytes)
    }
  }
  return flipped
}

/** Where the parts of a tenant's file of that name lie, from the info that stands in the same store. */
function nuidOf(bytes: Buffer, kind: Kind): string | undefined {
  const text = bytes.toString('latin1')
  const info = new RegExp(
    `\\{"name":"${kind}/[0-9A-Z]{26}/${KINDS[kind].replace('.', '\\.')}"[^{]*?"nuid":"([0-9a-f]+)"`,
  )
  return info.exec(text)?.[1]
}
