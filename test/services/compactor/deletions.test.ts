// R1 to R3: a deletion that is cut short between any two steps is completed by whoever finds it, and written once.
import { expect, test } from 'vitest'
import { Deletions } from '../../../services/compactor/deletions.ts'
import { systemClock } from '../../../shared/base/clock.ts'
import { seededRandom } from '../../../shared/base/random.ts'
import { openBlocks } from '../../../shared/blocks/open.ts'
import type { Blocks } from '../../../shared/blocks/port.ts'
import { createMemoryHub } from '../../../shared/bus/memory-bus.ts'
import type { Bus } from '../../../shared/bus/port.ts'
import { DELETES_MAX, deleteSubject, undeleteSubject } from '../../../shared/contracts/deletes.ts'
import { logConfig, logName } from '../../../shared/contracts/log.ts'
import { memoryObjects } from '../../../shared/objects/memory-objects.ts'
import { silentLog } from '../../../shared/telemetry/log.ts'

const PARTITIONS = 3
const UNDO_MS = 3_600_000
const asked = {
  ...{ tenant: 'acme', id: 'd1', kind: 'series' as const, startMs: 0, endMs: 1000, askedBy: 'test' },
  selectors: [[{ name: '__name__', operator: '=' as const, value: 'a' }]],
}

class Ground {
  aheadMs = 0
  readonly clock = { ...systemClock, now: () => systemClock.now() + this.aheadMs }
  blocks!: Blocks
  bus!: Bus

  async open(): Promise<this> {
    const hub = createMemoryHub({ clock: systemClock, random: seededRandom(1) })
    this.bus = hub.connect('compactor')
    for (let partition = 0; partition < PARTITIONS; partition++) {
      await this.bus.logs.ensure(logConfig(partition, { bytesMax: 1 << 20, replicas: 1 }))
    }
    const world = { clock: systemClock, random: seededRandom(2), log: silentLog }
    this.blocks = await openBlocks({ bus: this.bus, objects: memoryObjects(), ...world })
    return this
  }

  /** One that dies before its n-th operation, or behind it; the operation itself is done then, and nobody knows. */
  deletions(death?: { at: number; isBehind: boolean }): Deletions {
    let operations = 0
    const mortal =
      <Args extends unknown[], Result>(work: (...args: Args) => Promise<Result>) =>
      async (...args: Args): Promise<Result> => {
        const isLast = death !== undefined && ++operations >= death.at
        if (isLast && !death.isBehind) throw new Error('dead')
        const result = await work(...args)
        if (isLast) throw new Error('dead')
        return result
      }
    const { logs } = this.bus
    const bus: Bus = Object.assign(Object.create(this.bus) as Bus, {
      logs: Object.assign(Object.create(logs) as Bus['logs'], { append: mortal(logs.append.bind(logs)) }),
    })
    const blocks = Object.assign(Object.create(this.blocks) as Blocks, {
      update: mortal(this.blocks.update.bind(this.blocks)),
    })
    return new Deletions({
      ...{ bus, clock: this.clock, log: silentLog, blocks: () => blocks, config: { undoMs: UNDO_MS } },
      membership: { partitionCount: () => PARTITIONS, readers: () => [] },
      onCleaned: () => {},
    })
  }

  async recordsIn(partition: number): Promise<string[]> {
    const { lastSeq } = await this.bus.logs.state(logName(partition))
    const found: string[] = []
    for (let seq = 1; seq <= lastSeq; seq++) {
      found.push((await this.bus.logs.get(logName(partition), seq, 1_000))!.subject)
    }
    return found
  }

  stateOf(id = 'd1'): string | undefined {
    return this.blocks.manifest('acme')?.manifest.deletes.find((entry) => entry.id === id)?.state
  }
}

/** 1 for the entry, one for each record, 1 for the state. */
const OPERATIONS = PARTITIONS + 2

test('R1: a deletion that was cut short anywhere is completed, and its records are written once', async () => {
  for (let at = 1; at <= OPERATIONS; at++) {
    for (const isBehind of [false, true]) {
      const where = `${isBehind ? 'behind' : 'before'} operation ${at}`
      const ground = await new Ground().open()
      await expect(ground.deletions({ at, isBehind }).remove(asked), where).rejects.toThrow('dead')
      if (at === 1 && !isBehind) {
        await expect.poll(() => ground.stateOf()).toBeUndefined()
        continue
      }
      await expect.poll(() => ground.stateOf(), { message: where }).toBeDefined()
      ground.aheadMs = 61_000
      await ground.deletions().completeAbandoned()
      await expect.poll(() => ground.stateOf(), { message: where }).toBe('active')
      const { position } = await ground.deletions().remove(asked) // asked again: the same deletion
      expect(position, where).toEqual([])
      for (let partition = 0; partition < PARTITIONS; partition++) {
        expect(await ground.recordsIn(partition), where).toEqual([deleteSubject(partition, 'd1')])
      }
    }
  }
})

test('R1: so is its taking back', async () => {
  for (let at = 1; at <= 2 * PARTITIONS + 2; at++) {
    for (const isBehind of [false, true]) {
      const where = `${isBehind ? 'behind' : 'before'} operation ${at}`
      const ground = await new Ground().open()
      await ground.deletions().remove(asked)
      await expect(ground.deletions({ at, isBehind }).undo({ ...asked, askedBy: 'me' }), where).rejects.toThrow('dead')
      ground.aheadMs = 61_000
      if (at === 1 && !isBehind) continue
      await expect.poll(() => ground.stateOf(), { message: where }).not.toBe('active')
      await ground.deletions().completeAbandoned()
      await expect.poll(() => ground.stateOf(), { message: where }).toBe('undone')
      for (let partition = 0; partition < PARTITIONS; partition++) {
        const wanted = [deleteSubject(partition, 'd1'), undeleteSubject(partition, 'd1')]
        expect(await ground.recordsIn(partition), where).toEqual(wanted)
      }
    }
  }
})

test('R3: after its window a deletion is not taken back; clean ends the window', async () => {
  const ground = await new Ground().open()
  await ground.deletions().remove(asked)
  await ground.deletions().remove({ ...asked, id: 'd2' })
  ground.aheadMs = UNDO_MS + 1_000
  await expect(ground.deletions().undo(asked)).rejects.toMatchObject({ code: 'err-carillon-undo-over', status: 409 })
  ground.aheadMs = 0
  expect(await ground.deletions().clean(asked)).toEqual({ endedCount: 2 })
  await expect(ground.deletions().undo(asked)).rejects.toMatchObject({ code: 'err-carillon-undo-over' })
  const { deletes } = await ground.deletions().list(asked)
  expect(deletes.map(({ id, state, askedBy }) => [id, state, askedBy])).toEqual([
    ['d1', 'active', 'test'],
    ['d2', 'active', 'test'],
  ])
})

test('a manifest takes only so many deletions', async () => {
  const ground = await new Ground().open()
  await ground.deletions().remove(asked)
  await ground.blocks.update('acme', (manifest) => {
    const [one] = manifest.deletes
    return { ...manifest, deletes: Array.from({ length: DELETES_MAX }, (_, i) => ({ ...one!, id: `n${i}` })) }
  })
  await expect(ground.deletions().remove({ ...asked, id: 'more' })).rejects.toMatchObject({
    code: 'err-carillon-too-many-deletes',
    status: 429,
  })
})
