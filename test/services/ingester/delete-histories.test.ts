// Deletions with the real owners and flushes: random histories under virtual time in which ingesters die and come back, appends lose their
// answers, reads are old, fences are lost or unreadable for some owners, and deletions are cut short; at the end blocks and every owner show
// what a list of samples says: what lies before the positions of the deletions in force is gone, and nothing else.
import { expect, test } from 'vitest'
import type { Deletions } from '../../../services/compactor/retire/deletions.ts'
import { hide } from '../../../services/ingester/read/hiding.ts'
import { CarillonError, UnavailableError } from '../../../shared/base/errors.ts'
import { type Random, seededRandom } from '../../../shared/base/random.ts'
import { hidersOf, isHiding } from '../../../shared/blocks/delete-rules.ts'
import type { LogMessage } from '../../../shared/bus/port.ts'
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
  /** What they take, and where they stand once that is known: it never changes. */
  readonly deletions = new Map<string, { names: readonly string[]; startMs: number; endMs: number; seq?: number }>()
  private segment = 0
  private counter = 0
  private deleter!: Deletions

  constructor(seed: number) {
    this.random = seededRandom(seed)
  }

  async run(): Promise<void> {
    const { ground, random } = this
    await ground.open()
    this.deleter = ground.deletions()
    await this.mark()
    await this.begin('i1')
    await this.begin('i2')
    for (let i = 0; i < STEPS; i++) {
      const dice = random.next()
      if (dice < 0.45) await this.write()
      else if (dice < 0.6) await this.mark()
      else if (dice < 0.72) await this.delete()
      else if (dice < 0.79) await this.undo()
      else if (dice < 0.86) await this.killOrStart(random.below(2) === 0 ? 'i1' : 'i2')
      else await ground.pass(200 + random.below(3_000))
      this.look()
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
    this.deletions.set(id, { names, startMs, endMs })
    const askedAt = this.ground.lastSeq()
    const asOf = this.ground.manifest(TENANT)?.version ?? 0
    const asked = { tenant: TENANT, id, kind: 'series' as const, selectors, startMs, endMs, askedBy: 'test', asOf }
    if (!(await this.faultily(() => this.deleter.remove(asked)))) return
    const { manifest } = await this.ground.soon(this.ground.blocks.update(TENANT, () => undefined))
    const place = manifest.deletes.find((entry) => entry.id === id)!.positions[0]!
    expect(place.seq, 'what was acknowledged before it was asked for lies before').toBeGreaterThan(askedAt)
    expect(place.seq, 'what comes after the answer lies behind').toBeLessThanOrEqual(this.ground.lastSeq())
  }

  private async undo(): Promise<void> {
    const ids = [...this.deletions.keys()]
    if (ids.length === 0) return
    const id = ids[this.random.below(ids.length)]!
    await this.faultily(() => this.deleter.undo({ tenant: TENANT, id, askedBy: 'test' }))
  }

  /** What fails is left half done. Answers whether it did not. */
  private async faultily(work: () => Promise<unknown>): Promise<boolean> {
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
      return true
    } catch (error) {
      if (!(error instanceof CarillonError)) throw error
      if (!(error instanceof UnavailableError))
        expect(error.code).toMatch(/^err-carillon-(not-found|undone|overtaken)$/)
      return false
    } finally {
      Object.assign(faults, before)
    }
  }

  /** Of the fences it loses some and cannot read others. */
  private begin(id: string): Promise<void> {
    const lot = id === 'i1' ? 0 : 1
    const hears = (message: LogMessage) => {
      if (!message.subject.includes('.delete.')) return message
      if (message.seq % 3 === lot) return undefined
      return message.seq % 3 === 2 ? { ...message, payload: Buffer.from('junk') } : message
    }
    return this.ground.start(id, { hears })
  }

  private async killOrStart(id: string): Promise<void> {
    const { ground } = this
    if (!ground.running.has(id)) return this.begin(id)
    if (ground.running.size > 1) ground.kill(id)
  }

  /** Positions stay where they are. */
  private look(): void {
    for (const { id, positions } of this.ground.manifest(TENANT)?.deletes ?? []) {
      const deletion = this.deletions.get(id)!
      const seq = positions[0]?.seq
      if (deletion.seq !== undefined) expect(seq, id).toBe(deletion.seq)
      if (seq !== undefined) deletion.seq = seq
    }
  }

  private async settle(): Promise<void> {
    const { ground } = this
    for (const id of ['i1', 'i2']) if (!ground.running.has(id)) await this.begin(id)
    await ground.soon(this.deleter.completeAbandoned())
    await ground.pass(61_000)
    await this.mark() // a position in a segment that is listed is not taken
    await ground.soon(this.deleter.completeAbandoned())
    this.look()
    await this.mark()
    await ground.until(() => ground.blocks.flushed(0) === this.segment - 1, 'all closed segments flushed')
    await ground.pass(3_000)
    expect(ground.failures).toEqual([])
  }

  model(): string[] {
    const inForce = this.ground.manifest(TENANT)?.deletes.filter(isHiding) ?? []
    const isGone = ({ seq, name, time }: Written) =>
      inForce.some(({ id, startMs, endMs, positions }) => {
        const isTaken = this.deletions.get(id)!.names.includes(name) && time >= startMs && time <= endMs
        return isTaken && seq < positions[0]!.seq
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
    hide(ground.owner(id), ground.blocks, asked)
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
const asked = {
  ...{ partition: 0, tenant: TENANT, watermark: 0, manifestVersion: 0, minSeq: 0, incarnation: '', waitMs: 0 },
}

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

test('DELETE-1 to DELETE-9, DELETE-12: blocks and every owner show what a list of samples says, whatever died meanwhile', async () => {
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
}, 60_000)
