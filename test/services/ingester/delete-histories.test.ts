// X1 to X3 with the real owners, flushes and deletions: random histories under virtual time in which ingesters die and come back, appends
// lose their answers, and deletions are cut short; at the end blocks and every owner show what a list of samples says.
import { expect, test } from 'vitest'
import { Deletions } from '../../../services/compactor/deletions.ts'
import { UnavailableError } from '../../../shared/base/errors.ts'
import { type Random, seededRandom } from '../../../shared/base/random.ts'
import { hidersOf } from '../../../shared/contracts/deletes.ts'
import { logName } from '../../../shared/contracts/log.ts'
import { silentLog } from '../../../shared/telemetry/log.ts'
import { BlockReader } from '../../../shared/tsdb/block/reader.ts'
import { decodeXor } from '../../../shared/tsdb/chunk/xor.ts'
import { SampleColumns } from '../../../shared/tsdb/columns.ts'
import { DeleteFilter, hiddenIntervals, pushVisible } from '../../../shared/tsdb/delete-filter.ts'
import { FlushGround, HOUR_MS } from './flush-ground.ts'
import { TENANT } from './log-writer.ts'

const HISTORIES = 25
const STEPS = 45
const NAMES = ['a', 'b', 'c']
const START_MS = 1_700_000_000_000 - (1_700_000_000_000 % (2 * HOUR_MS)) + 2 * HOUR_MS - 20
const TIMES = 40

interface Written {
  readonly seq: number
  readonly name: string
  readonly time: number
  readonly value: number
}

class History {
  readonly ground = new FlushGround()
  readonly random: Random
  readonly written: Written[] = []
  /** Where the records stand in the log, and what they take. */
  readonly deletions = new Map<string, { names: readonly string[]; startMs: number; endMs: number; seq: number }>()
  private segment = 0
  private counter = 0
  private scannedSeq = 0
  private deleter!: Deletions

  constructor(seed: number) {
    this.random = seededRandom(seed)
  }

  async run(): Promise<void> {
    const { ground, random } = this
    await ground.open()
    const bus = ground.hub.connect('deleter')
    this.deleter = new Deletions({
      ...{ bus, clock: ground.clock, log: silentLog, blocks: () => ground.blocks, config: { undoMs: 10 * HOUR_MS } },
      membership: { partitionCount: () => 1, readers: () => [...ground.running.keys()] },
      onCleaned: () => {},
    })
    await this.mark()
    await ground.start('i1')
    await ground.start('i2')
    for (let i = 0; i < STEPS; i++) {
      const dice = random.next()
      if (dice < 0.45) await this.write()
      else if (dice < 0.6) await this.mark()
      else if (dice < 0.72) await this.delete()
      else if (dice < 0.79) await this.undo()
      else if (dice < 0.86) await this.killOrStart(random.below(2) === 0 ? 'i1' : 'i2')
      else await ground.pass(200 + random.below(3_000))
      this.scan()
    }
    await this.settle()
  }

  private async write(): Promise<void> {
    const samples = Array.from({ length: 1 + this.random.below(5) }, () => {
      const name = NAMES[this.random.below(NAMES.length)]!
      return [name, START_MS + this.random.below(TIMES), this.random.below(9)] as const
    })
    const seq = await this.ground.batch(samples)
    for (const [name, time, value] of samples) this.written.push({ seq, name, time, value })
  }

  private async mark(): Promise<void> {
    await this.ground.mark(++this.segment)
  }

  private async delete(): Promise<void> {
    const { random } = this
    const names = NAMES.filter(() => random.below(2) === 0)
    const startMs = START_MS + random.below(TIMES)
    const endMs = startMs + random.below(TIMES)
    const selectors = [[{ name: '__name__', operator: '=~' as const, value: names.join('|') || 'none' }]]
    const id = `d${++this.counter}`
    this.deletions.set(id, { names, startMs, endMs, seq: Number.POSITIVE_INFINITY })
    const asked = { tenant: TENANT, id, kind: 'series' as const, selectors, startMs, endMs, askedBy: 'test' }
    await this.faultily(() => this.deleter.remove(asked))
  }

  private async undo(): Promise<void> {
    const ids = [...this.deletions.keys()]
    if (ids.length === 0) return
    const id = ids[this.random.below(ids.length)]!
    await this.faultily(() => this.deleter.undo({ tenant: TENANT, id, askedBy: 'test' }))
  }

  /** What fails is left half done. */
  private async faultily(work: () => Promise<unknown>): Promise<void> {
    const { faults } = this.ground.hub
    const before = { ...faults }
    Object.assign(faults, {
      storeButLoseAck: 0.4,
      dropBeforeStore: 0.4,
      kvLoseAck: 0.2,
      staleRead: 0.5,
      staleBehindMax: 3,
    })
    try {
      await this.ground.soon(work())
    } catch (error) {
      if (!(error instanceof UnavailableError)) expect((error as { code?: string }).code).toBe('err-carillon-not-found')
    } finally {
      Object.assign(faults, before)
    }
  }

  private async killOrStart(id: string): Promise<void> {
    const { ground } = this
    if (!ground.running.has(id)) return ground.start(id)
    if (ground.running.size > 1) ground.kill(id)
  }

  /** Records are noted before the log is purged. */
  private scan(): void {
    for (const { seq, subject } of this.ground.hub
      .log(logName(0))!
      .read(this.scannedSeq + 1, Number.MAX_SAFE_INTEGER)) {
      this.scannedSeq = seq
      const [, id] = /\.delete\.(\w+)$/.exec(subject) ?? []
      const deletion = id === undefined ? undefined : this.deletions.get(id)
      if (deletion === undefined) continue
      expect(deletion.seq, 'a record is written once').toBe(Number.POSITIVE_INFINITY)
      deletion.seq = seq
    }
  }

  private async settle(): Promise<void> {
    const { ground } = this
    for (const id of ['i1', 'i2']) if (!ground.running.has(id)) await ground.start(id)
    await ground.pass(61_000)
    await ground.soon(this.deleter.completeAbandoned())
    this.scan()
    await this.mark()
    await ground.until(() => ground.blocks.flushed(0) === this.segment - 1, 'all closed segments flushed')
    await ground.pass(3_000)
    expect(ground.failures).toEqual([])
  }

  model(): string[] {
    const states = new Map(this.ground.manifest(TENANT)?.deletes.map(({ id, state }) => [id, state]))
    const isGone = ({ seq, name, time }: Written) =>
      [...this.deletions].some(([id, { names, startMs, endMs, seq: place }]) => {
        const isTaken = names.includes(name) && time >= startMs && time <= endMs && seq < place
        return isTaken && states.get(id) === 'active'
      })
    return union(this.written.filter((sample) => !isGone(sample)))
  }

  async shown(id: string): Promise<string[]> {
    const { ground } = this
    const seen: Omit<Written, 'seq'>[] = []
    const manifest = ground.manifest(TENANT)
    for (const entry of manifest?.blocks ?? []) {
      const filters = hidersOf(manifest!.deletes, entry.ulid).map((deletion) => new DeleteFilter(deletion))
      const files = ground.blocks.openBlock(TENANT, entry)
      const reader = await ground.soon(files.meta().then((meta) => BlockReader.open(files, meta)))
      for await (const batch of reader.allSeries()) {
        for (const { labels, chunks } of batch) {
          for (const { bytes, count } of chunks) {
            const run = { times: new Float64Array(count), values: new Float64Array(count), start: 0, end: count }
            decodeXor(bytes, 0, bytes.length, run.times, run.values, 0)
            const columns = new SampleColumns()
            pushVisible(run, hiddenIntervals(filters, labels), columns)
            seen.push(...samplesOf(labels[1]!, columns))
          }
        }
      }
    }
    const { state } = ground.owner(id)
    expect(state.droppedUpTo, 'only what is not in blocks is in memory').toBe(ground.blocks.flushed(0))
    const head = state.heads.get(TENANT)
    for (const ref of head?.select([], ALL) ?? []) {
      const columns = new SampleColumns()
      head!.readInto(ref, ALL, columns)
      seen.push(...samplesOf(head!.labelsOf(ref)[1]!, columns))
    }
    return union(seen)
  }
}

const ALL = { startMs: 0, endMs: 1e15 }

function samplesOf(name: string, { times, values, count }: SampleColumns): Omit<Written, 'seq'>[] {
  return Array.from({ length: count }, (_, i) => ({ name, time: times[i]!, value: values[i]! }))
}

function union(samples: readonly Omit<Written, 'seq'>[]): string[] {
  const greatest = new Map<string, number>()
  for (const { name, time, value } of samples) {
    const key = `${name}@${time - START_MS}`
    greatest.set(key, Math.max(value, greatest.get(key) ?? value))
  }
  return [...greatest].map(([key, value]) => `${key}=${value}`).sort()
}

test('X1, X3: blocks and every owner show what a list of samples says, whatever died meanwhile', async () => {
  let hiddenCount = 0
  for (let seed = 1; seed <= HISTORIES; seed++) {
    const history = new History(seed)
    try {
      await history.run()
      for (const id of ['i1', 'i2']) expect(await history.shown(id), `seed ${seed}, ${id}`).toEqual(history.model())
      hiddenCount += union(history.written).length - history.model().length
      const states = history.ground.manifest(TENANT)?.deletes.map(({ state }) => state) ?? []
      expect(new Set([...states, 'active', 'undone']), `seed ${seed}`).toEqual(new Set(['active', 'undone']))
    } finally {
      history.ground.close()
    }
  }
  expect(hiddenCount, 'times at which nothing is shown any more').toBeGreaterThan(HISTORIES)
})
