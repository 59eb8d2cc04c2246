// Killing: every actor, all ingesters, the nats-server, everything, at random points under load. What was acknowledged is read back, once,
// by every way of reading; writers meanwhile see 503 and broken connections at worst.
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { afterEach, describe, expect, test } from 'vitest'
import { type Random, seededRandom } from '../../shared/base/random.ts'
import { until } from '../waiting.ts'
import { checkAll } from './check.ts'
import { type Load, startLoad } from './load.ts'
import { findNatsServer } from './nats-server.ts'
import { killEverything, killOne } from './processes.ts'
import { freePort, pidOf, type System, startSystem } from './system.ts'

const nats = findNatsServer()
const isSkipped = 'reason' in nats && process.env['CARILLON_CI'] !== '1'
if ('reason' in nats) console.log(`kill tests: ${nats.reason}`)
const env: Record<string, string> = 'path' in nats ? { CARILLON_NATS_SERVER: nats.path } : {}
const seed = Number(process.env['SEED'] ?? Math.floor(Math.random() * 1e9))
console.log(`kill tests: SEED=${seed}`)

const cleanups: (() => Promise<void> | void)[] = []
afterEach(async () => {
  for (const cleanup of cleanups.splice(0).reverse()) await cleanup()
})

const short = [
  '--segment=3s',
  '--segment-min=1s',
  '--high-water=1s',
  '--checkpoint=1s',
  '--linger=2ms',
  '--drop-after=2s',
]
const replicated = [...short, '--partitions=2', '--ingesters=2', '--replication-factor=2']

describe.skipIf(isSkipped)('killed processes', () => {
  test('two owners per partition: every kind is killed under load, nothing acknowledged is lost, owners stay equal', async () => {
    const random = seededRandom(seed)
    const run = await begin(replicated, seed)
    const kinds = ['gateway-1', 'distributor-1', 'ingester-1', 'ingester-2', 'querier-1', 'nats']
    for (const id of [...shuffled(kinds, random), ...shuffled(kinds, random)]) {
      await sleep(300 + random.below(1500))
      await killed(run, [id])
    }
    await sleep(random.below(1000))
    await killed(run, ['ingester-1', 'ingester-2'])
    const checked = await finish(run)
    expect(checked.partitions.partitions.every(({ owners }) => owners.length === 2)).toBe(true)
    expect(checked.partitions.partitions.every(({ owners }) => owners.every(({ mark }) => mark >= 3))).toBe(true)
    const flushed = checked.partitions.partitions.flatMap(({ owners }) => owners.map((owner) => owner.flushed))
    console.log(`flushed segments: ${flushed.join(' ')}`)
    expect(Math.min(...flushed), 'leaders died between flushes, and the next ones went on').toBeGreaterThanOrEqual(2)
  })

  test('as npm start runs it: actors, nats-server and everything are killed, and it goes on on the same data', async () => {
    const random = seededRandom(seed + 1)
    const run = await begin([], seed + 1)
    for (const id of shuffled(['gateway-1', 'distributor-1', 'ingester-1', 'nats'], random)) {
      await sleep(200 + random.below(1000))
      await killed(run, [id])
    }
    for (let round = 0; round < 3; round++) {
      await sleep(500 + random.below(1500))
      await killEverything(run.system)
      const startedMs = performance.now()
      run.system = await startSystem(run.options)
      const tookMs = performance.now() - startedMs
      console.log(`everything was killed: ready again after ${Math.round(tookMs)} ms`)
      expect(tookMs).toBeLessThan(60_000)
    }
    await finish(run)
  })
})

interface Run {
  system: System
  readonly options: { dataDir: string; port: number; args: readonly string[]; env: Record<string, string> }
  readonly load: Load
}

async function begin(args: readonly string[], loadSeed: number): Promise<Run> {
  const dataDir = mkdtempSync(join(tmpdir(), 'carillon-kill-'))
  const options = { dataDir, port: await freePort(), args, env }
  const run: Run = {
    system: await startSystem(options),
    options,
    load: startLoad({ url: () => `http://127.0.0.1:${options.port}`, seed: loadSeed, pauseMs: 10 }),
  }
  cleanups.push(async () => {
    await run.load.abandon().catch(() => {})
    await killEverything(run.system)
    rmSync(dataDir, { recursive: true, force: true })
  })
  return run
}

/** Kills, and waits until pushes get through again. */
async function killed({ system, load }: Run, ids: readonly string[]): Promise<void> {
  for (const id of ids) await until(`${id} runs`, () => pidOf(system, id) > 0)
  for (const id of ids) killOne(system, id)
  const killedMs = performance.now()
  try {
    await until('a push is acknowledged again', () => (load.acknowledgedAtMs().at(-1) ?? 0) > killedMs + 200)
  } catch (cause) {
    const warned = system.logLines.filter((line) => !line.includes('"level":"info"')).slice(-30)
    throw new Error(
      `after ${ids.join(' ')} was killed: ${JSON.stringify(load.answers.slice(-3))}\n${warned.join('\n')}`,
      { cause },
    )
  }
}

async function finish({ system, load, options }: Run) {
  await load.stop()
  const outcomes = load.outcomes()
  console.log(`outcomes ${JSON.stringify(outcomes)}, ${load.ledger.acknowledgedCount} samples acknowledged`)
  expect(Object.keys(outcomes).filter((outcome) => !['204', '503', 'connection'].includes(outcome))).toEqual([])
  await until('the gateway is ready', async () => (await fetch(`${system.url}/ready`)).ok)
  const checked = await checkAll({ url: `http://127.0.0.1:${options.port}`, nats: system.ready }, load.ledger)
  console.log(`checked ${checked.acknowledged} samples and ${checked.batches} batches`)
  return checked
}

function shuffled(words: readonly string[], random: Random): string[] {
  return words
    .map((word) => [random.next(), word] as const)
    .sort(([a], [b]) => a - b)
    .map(([, word]) => word)
}
