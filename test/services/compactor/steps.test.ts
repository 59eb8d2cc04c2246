// What one compactor does with damaged blocks, deletions, retention and windows, on a memory bus in virtual time.
import fs from 'node:fs'
import os from 'node:os'
import path from 'node:path'
import { describe, expect, it } from 'vitest'
import type { MergeStep } from '../../../services/compactor/plan-types.ts'
import { sleep } from '../../../shared/base/clock.ts'
import { UnavailableError } from '../../../shared/base/errors.ts'
import type { KvEntry } from '../../../shared/bus/port.ts'
import type { DeleteEntry } from '../../../shared/contracts/blocks.ts'
import { labelOf, labelsFrom, labelsKey } from '../../../shared/model/labels.ts'
import { withLateWatches } from '../../altered-bus.ts'
import { Ground, TENANT } from './compactors-ground.ts'
import { floatValue, naiveMerge, plainOf, type Sample, type SeriesMap } from './merge-ground.ts'

const HOUR = 3_600_000
const MINUTE = 60_000
const day0 = Math.floor(1_700_000_000_000 / (24 * HOUR)) * 24 * HOUR - 72 * HOUR

function hourOf(startMs: number, value: (i: number) => number = (i) => i): SeriesMap {
  const block: SeriesMap = new Map()
  for (const env of ['dev', 'prod']) {
    const labels = labelsFrom({ __name__: 'up', env })
    const samples = Array.from(
      { length: 60 },
      (_, i): Sample => ({ time: startMs + i * MINUTE, value: floatValue(value(i)) }),
    )
    block.set(labelsKey(labels), { labels, samples })
  }
  return block
}

const withoutEnv = (series: SeriesMap, env: string): SeriesMap =>
  new Map([...series].filter(([, { labels }]) => labelOf(labels, 'env') !== env))

async function opened(hours: readonly number[]): Promise<Ground> {
  const ground = new Ground(11)
  await ground.open()
  for (const [i, hour] of hours.entries()) await ground.until(ground.flush(hourOf(day0 + hour * HOUR), i % 2))
  return ground
}

const environment = (env: string) => [[{ name: 'env', operator: '=', value: env } as const]]

describe('damage', () => {
  it('STEP-2: a damaged block is named and set aside, the others are merged', async () => {
    const ground = await opened([0, 1, 2, 3])
    const { blocks } = await ground.until(ground.manifest())
    const bad = blocks[2]!
    ground.objects.damage(`${TENANT}/${bad.ulid}/chunks/000001`)
    const stop = await ground.start('one')
    await ground.pass(2 * MINUTE)
    const status = await ground.status('one')
    expect(status.aside).toMatchObject([{ tenant: TENANT, ulid: bad.ulid }])
    const after = await ground.until(ground.manifest())
    expect(after.blocks).toHaveLength(2)
    expect(after.blocks.map(({ ulid }) => ulid)).toContain(bad.ulid)
    expect(status.history.map(({ outcome }) => outcome)).toEqual(['done', 'failed'])
    await stop()
  })

  it('STEP-1: what reads back wrong is no fault of its sources: it is taken away and written anew', async () => {
    const ground = await opened([0, 1])
    const sources = (await ground.until(ground.manifest())).blocks.map(({ ulid }) => ulid)
    let hasRotted = false
    const stop = await ground.start('one', {
      onObject(operation, name) {
        const [, ulid = '', file = ''] = name.split('/')
        if (hasRotted || operation !== 'info' || file !== 'meta.json' || sources.includes(ulid)) return
        hasRotted = true
        ground.objects.damage(`${TENANT}/${ulid}/chunks/000001`)
      },
    })
    await ground.pass(2 * MINUTE)
    const { history, aside } = await ground.status('one')
    expect(history.map(({ outcome }) => outcome)).toEqual(['done', 'failed'])
    expect(aside).toEqual([])
    const { blocks } = await ground.until(ground.manifest())
    expect(blocks).toHaveLength(1)
    const found = (await ground.until(ground.found())).map(({ ulid }) => ulid).sort()
    expect(found).toEqual([...sources, blocks[0]!.ulid].sort())
    await stop()
  })
})

describe('a compactor whose watch is behind', () => {
  it('COMPACTOR-1: does not plan by a manifest that is older than what it has written itself', async () => {
    const ground = await opened([0, 1, 2, 3])
    const late = async ({ key }: KvEntry) => (key.startsWith('manifest.') ? sleep(ground.clock, 40_000) : undefined)
    const stop = await ground.start('one', { alter: (bus) => withLateWatches(bus, late) })
    await ground.pass(4 * MINUTE)
    const { history } = await ground.status('one')
    expect(history.map(({ outcome }) => outcome)).toEqual(['done'])
    expect((await ground.until(ground.manifest())).blocks).toHaveLength(1)
    await stop()
  })
})

describe('a step that fails', () => {
  it('LOG-17: deletes nothing of what the very same step has listed before, and all of what nobody lists', async () => {
    const ground = await opened([0, 1])
    const { blocks: sources } = await ground.until(ground.manifest())
    let isFailing = false
    const { run, close } = await ground.until(
      ground.steps((operation, name) => {
        if (isFailing && operation === 'create' && name.endsWith('/index'))
          throw new UnavailableError('objects-timeout', 'its answer is lost')
      }),
    )
    const step: MergeStep = { ...{ kind: 'merge', why: 'small', level: 1 }, sources, deletes: [], keeps: [], rules: [] }
    const lease = { tenant: TENANT, fence: 1, signal: new AbortController().signal }
    expect(await ground.until(run(lease, step, lease.signal))).toBe('done')
    const { blocks: listed } = await ground.until(ground.manifest())
    const files = () => ground.objects.list(`${TENANT}/${listed[0]!.ulid}/`, { timeoutMs: 1_000 })
    const before = await ground.until(files())
    isFailing = true
    await expect(ground.until(run(lease, step, lease.signal))).rejects.toThrow('its answer is lost')
    expect(await ground.until(files())).toEqual(before)
    await expect(ground.until(run({ ...lease, fence: 2 }, step, lease.signal))).rejects.toThrow('its answer is lost')
    const kept = [...sources, ...listed].map(({ ulid }) => ulid).sort()
    expect((await ground.until(ground.found())).map(({ ulid }) => ulid).sort()).toEqual(kept)
    close()
  })
})

it('STEP-3: a step under a lease that was followed by another changes nothing', async () => {
  const ground = await opened([0, 1])
  const { run, blocks, close } = await ground.until(ground.steps(() => {}))
  const next = await ground.until(blocks.update(TENANT, (manifest) => ({ ...manifest }), { fence: 2 }))
  const { blocks: sources } = next.manifest
  const step: MergeStep = { ...{ kind: 'merge', why: 'small', level: 1 }, sources, deletes: [], keeps: [], rules: [] }
  const lease = { tenant: TENANT, fence: 1, signal: new AbortController().signal }
  await expect(ground.until(run(lease, step, lease.signal))).rejects.toThrow('was followed by 2')
  expect(await ground.until(ground.manifest())).toEqual(next.manifest)
  close()
})

describe('deletions', () => {
  const deletion = (blocks: readonly string[], change: Partial<DeleteEntry> = {}): DeleteEntry => ({
    ...{ id: 'd1', kind: 'series', state: 'active', selectors: environment('dev'), positions: {} },
    ...{
      startMs: day0,
      endMs: day0 + 90 * MINUTE,
      askedAtMs: 0,
      askedBy: 'me',
      undoUntilMs: 1_700_000_000_000 + 5 * MINUTE,
    },
    blocks,
    ...change,
  })

  it('EXPOSITION-3: hidden samples stay until the window ends, then they are gone and the entry is history', async () => {
    const ground = await opened([0, 1, 2])
    ground.shown = (all) =>
      new Map(
        [...all].map(([key, { labels, samples }]) => {
          const left = samples.filter(({ time }) => labelOf(labels, 'env') !== 'dev' || time > day0 + 90 * MINUTE)
          return [key, { labels, samples: left }]
        }),
      )
    const { blocks } = await ground.until(ground.manifest())
    const ulids = blocks.map(({ ulid }) => ulid)
    await ground.until(ground.change((manifest) => ({ ...manifest, deletes: [deletion(ulids)] })))
    const stopReader = await ground.startReader()
    const stop = await ground.start('one')
    await ground.pass(4 * MINUTE)
    expect(plainOf(naiveMerge(await ground.stored(() => true)))).toEqual(plainOf(naiveMerge(ground.written)))
    await ground.pass(4 * MINUTE)
    expect(plainOf(naiveMerge(await ground.stored(() => true)))).toEqual(
      plainOf(ground.shown(naiveMerge(ground.written))),
    )
    expect((await ground.until(ground.manifest())).deletes).toMatchObject([{ id: 'd1', state: 'removed', blocks: [] }])
    expect(await stopReader()).toBeGreaterThan(10)
    await stop()
  })

  it('a block that holds nothing of it is not rewritten', async () => {
    const ground = await opened([0])
    const { blocks } = await ground.until(ground.manifest())
    const ulid = blocks[0]!.ulid
    const entry = deletion([ulid], { selectors: environment('none'), undoUntilMs: 0 })
    await ground.until(ground.change((manifest) => ({ ...manifest, deletes: [entry] })))
    const stop = await ground.start('one')
    await ground.pass(MINUTE)
    const after = await ground.until(ground.manifest())
    expect(after.blocks.map((each) => each.ulid)).toEqual([ulid])
    expect(after.deletes).toMatchObject([{ state: 'removed' }])
    await stop()
  })
})

describe('retention', () => {
  it('rules take single series, the rest goes by age; each block is rewritten once', async () => {
    const file = path.join(fs.mkdtempSync(path.join(os.tmpdir(), 'carillon-policy-')), 'policy.yaml')
    fs.writeFileSync(file, `tenants:\n  ${TENANT}:\n    keep: 4d\n    rules: [{ selector: '{env="dev"}', keep: 2d }]\n`)
    const ground = await opened([0, 1, 50])
    await ground.until(ground.flush(hourOf(day0 - 48 * HOUR), 0))
    const stop = await ground.start('one', { config: { policyFile: file } })
    await ground.pass(5 * MINUTE)
    const [old, young] = [[0, 1], [50]].map((hours) => naiveMerge(hours.map((hour) => hourOf(day0 + hour * HOUR))))
    const expected = naiveMerge([withoutEnv(old!, 'dev'), young!])
    expect(plainOf(naiveMerge(await ground.stored(() => true)))).toEqual(plainOf(expected))
    const { history } = await ground.status('one')
    await ground.pass(10 * MINUTE)
    expect((await ground.status('one')).history.filter(({ why }) => why === 'retention')).toEqual(
      history.filter(({ why }) => why === 'retention'),
    )
    await stop()
  })
})

describe('compact now', () => {
  it('merges ranges that are not complete', async () => {
    const ground = new Ground(12)
    await ground.open()
    const startMs = Math.floor(1_700_000_000_000 / HOUR) * HOUR
    for (const i of [0, 1]) await ground.until(ground.flush(hourOf(startMs - i * 20 * MINUTE), 0))
    const stop = await ground.start('one', { config: { compactDelayMs: 10 * HOUR } })
    await ground.pass(MINUTE)
    expect((await ground.until(ground.manifest())).blocks).toHaveLength(2)
    expect(await ground.compactNow()).toMatchObject({ isDone: true, tenants: [{ tenant: TENANT, steps: 1 }] })
    expect((await ground.until(ground.manifest())).blocks).toHaveLength(1)
    await stop()
  })
})

describe('windows', () => {
  it('of 5 m stand beside their raw block, and are made again when late data has come', async () => {
    const ground = await opened([0, 1, 2])
    const stop = await ground.start('one', { config: { downsample: true, lateRatio: 1 } })
    await ground.pass(2 * MINUTE)
    const first = await ground.until(ground.manifest())
    const aggregates = (list: typeof first.blocks) => list.flatMap(({ aggregate }) => aggregate ?? []).sort()
    expect(aggregates(first.blocks)).toEqual(['count', 'counter', 'last', 'max', 'min', 'sum'])
    const counts = await ground.stored(({ aggregate }) => aggregate === 'count')
    expect([...counts[0]!.values()].map(({ samples }) => samples.length)).toEqual([36, 36])
    await ground.until(ground.flush(hourOf(day0 + 5 * HOUR), 0))
    await ground.compactNow()
    const second = await ground.until(ground.manifest())
    expect(aggregates(second.blocks)).toEqual(aggregates(first.blocks))
    const raw = second.blocks.filter(({ resolutionMs }) => resolutionMs === 0).map(({ ulid }) => ulid)
    for (const { rawUlids } of second.blocks.filter(({ resolutionMs }) => resolutionMs > 0))
      expect(rawUlids).toEqual(raw.sort())
    const again = await ground.stored(({ aggregate }) => aggregate === 'count')
    expect([...again[0]!.values()].map(({ samples }) => samples.length)).toEqual([48, 48])
    await stop()
  })
})

describe('a store that is full', () => {
  it('leaves nothing of the tries, which come ever more slowly; once there is room the blocks are merged', async () => {
    const ground = await opened([0, 1, 2, 3])
    let isFull = true
    let tries = 0
    const stop = await ground.start('one', {
      onObject(operation, name) {
        if (operation !== 'create' || !name.endsWith('/index') || !isFull) return
        tries++
        throw new UnavailableError('objects-full', 'no room')
      },
    })
    await ground.pass(40 * MINUTE)
    expect(tries).toBeGreaterThan(3)
    expect(tries).toBeLessThan(20)
    const { blocks } = await ground.until(ground.manifest())
    expect(blocks).toHaveLength(4)
    expect((await ground.until(ground.found())).map(({ ulid }) => ulid).sort()).toEqual(
      blocks.map(({ ulid }) => ulid).sort(),
    )
    isFull = false
    await ground.compactNow()
    expect((await ground.until(ground.manifest())).blocks).toHaveLength(1)
    await stop()
  })
})
