// Planning: what is merged, what is never, and that it ends.
import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { withReplacement, withSettled } from '../../../services/compactor/merge/manifest-changes.ts'
import { alignedRange, plan } from '../../../services/compactor/plan/plan.ts'
import { type Policy, policiesFrom } from '../../../services/compactor/plan/retention-policy.ts'
import type { MergeStep, PlanInput, Step } from '../../../services/compactor/plan-types.ts'
import type { BlockEntry, DeleteEntry, Manifest } from '../../../shared/contracts/blocks.ts'

const HOUR = 3_600_000
const DAY = 24 * HOUR
const day0 = 20_000 * DAY
const settings = {
  rangesMs: [2 * HOUR, 12 * HOUR, 24 * HOUR],
  delayMs: HOUR,
  lateRatio: 0.25,
  sourcesMax: 16,
  mergeBytesMax: 1e12,
}
const forEver: Policy = policiesFrom({ keepMs: 0, keepBytesMax: 0, downsample: false }, '').of('acme')

let made = 0
function block(change: Partial<BlockEntry>): BlockEntry {
  const ulid = `B${String(made++).padStart(6, '0')}`
  const counts = { seriesCount: 1, sampleCount: 1, chunkCount: 1, bytes: 1000, resolutionMs: 0 }
  const origin = { kind: 'flush', partition: 0, segment: 1 } as const
  return { ulid, minTime: day0, maxTime: day0 + HOUR, ...counts, metaSha256: ulid, origin, ...change }
}

function flushed(startMs: number, change: Partial<BlockEntry> = {}): BlockEntry {
  return block({ minTime: startMs, maxTime: startMs + 30 * 60_000, ...change })
}

function manifest(blocks: readonly BlockEntry[], change: Partial<Manifest> = {}): Manifest {
  return {
    ...{ tenant: 'acme', version: 1, previous: '', flushed: {}, retired: [], deletes: [], fence: 1 },
    blocks,
    ...change,
  }
}

function input(of: Manifest, nowMs: number, change: Partial<PlanInput> = {}): PlanInput {
  return {
    ...{ manifest: of, nowMs, settings, policy: forEver },
    flushed: () => 1_000_000,
    isAside: () => false,
    ...change,
  }
}

function deletion(id: string, blocks: readonly BlockEntry[], change: Partial<DeleteEntry> = {}): DeleteEntry {
  return {
    ...{ id, kind: 'series', state: 'active', selectors: [[{ name: 'a', operator: '=', value: 'b' }]] },
    ...{ startMs: day0, endMs: day0 + DAY, askedAtMs: day0, askedBy: 'me', undoUntilMs: day0 + DAY, positions: {} },
    blocks: blocks.map(({ ulid }) => ulid),
    ...change,
  } as DeleteEntry
}

const merges = (steps: readonly Step[]): MergeStep[] => steps.filter((step) => step.kind === 'merge')
const ulids = (blocks: readonly BlockEntry[]): string[] => blocks.map(({ ulid }) => ulid).sort()

/** What carrying out a merge does to a manifest, when no sample is doubled. */
function merged(of: Manifest, step: MergeStep, nowMs: number): Manifest {
  const { sources } = step
  const result = block({
    minTime: Math.min(...sources.map(({ minTime }) => minTime)),
    maxTime: Math.max(...sources.map(({ maxTime }) => maxTime)),
    bytes: sources.reduce((sum, { bytes }) => sum + bytes, 0),
    resolutionMs: sources[0]!.resolutionMs,
    origin: { kind: 'compaction', level: step.level },
    ...(step.rules.length > 0 ? { rules: step.rules } : {}),
  })
  const applied = step.deletes.map(({ id }) => id)
  return withReplacement(of, {
    ...{ sources, results: [result], applied, reason: 'compacted', isComplete: applied.length === 0, nowMs },
  })!
}

function settle(of: Manifest, nowMs: number, change: Partial<PlanInput> = {}) {
  let at = of
  const rewritten: MergeStep[] = []
  for (;;) {
    const step = merges(plan(input(at, nowMs, change)))[0]
    if (step === undefined) return { manifest: at, steps: rewritten }
    rewritten.push(step)
    at = merged(at, step, nowMs)
    expect(rewritten.length, 'planning ends').toBeLessThan(10_000)
  }
}

const anyBlock = fc
  .record({
    slot: fc.integer({ min: 0, max: 4 * 48 - 1 }),
    bytes: fc.integer({ min: 1, max: 1_000_000 }),
    resolution: fc.constantFrom(0, 0, 0, 300_000),
    deletes: fc.subarray(['d1', 'd2']),
    isAside: fc.boolean().map((rare) => rare && made % 7 === 0),
  })
  .map(({ slot, bytes, resolution, deletes, isAside }) => ({
    entry: flushed(day0 + slot * 30 * 60_000, { bytes, resolutionMs: resolution }),
    deletes,
    isAside,
  }))

describe('merging', () => {
  it('blocks of a complete range become one, the newest range first', () => {
    const old = [0, 1, 2, 3].map((i) => flushed(day0 - DAY + i * 30 * 60_000))
    const young = [0, 1, 2, 3].map((i) => flushed(day0 + i * 30 * 60_000))
    const open = [4, 5].map((i) => flushed(day0 + i * 30 * 60_000))
    const steps = merges(plan(input(manifest([...old, ...young, ...open]), day0 + 3 * HOUR)))
    expect(steps.map(({ sources }) => ulids(sources))).toEqual([ulids(young), ulids(old)])
  })

  it('a range is not complete while a partition that wrote into it has flushed nothing newer, for a while', () => {
    const blocks = [0, 1].map((i) =>
      flushed(day0 + i * 30 * 60_000, { origin: { kind: 'flush', partition: 3, segment: 9 } }),
    )
    const at = (nowMs: number, newest: number) =>
      merges(plan(input(manifest(blocks), nowMs, { flushed: () => newest })))
    expect(at(day0 + 2 * HOUR, 10)).toEqual([])
    expect(at(day0 + 3 * HOUR, 9)).toEqual([])
    expect(at(day0 + 3 * HOUR, 10)).toHaveLength(1)
    expect(at(day0 + 6 * HOUR, 9)).toHaveLength(1)
  })

  it('what waited for long is merged at once into the largest range', () => {
    const blocks = Array.from({ length: 12 }, (_, i) => flushed(day0 + i * 2 * HOUR))
    const { manifest: after, steps } = settle(manifest(blocks), day0 + 3 * DAY)
    expect(steps).toHaveLength(1)
    expect(after.blocks).toHaveLength(1)
  })

  it('PLAN-2: a straggler does not rewrite a large block; many of them together do', () => {
    const large = block({
      minTime: day0,
      maxTime: day0 + DAY,
      bytes: 1_000_000,
      origin: { kind: 'compaction', level: 3 },
    })
    const late = Array.from({ length: 30 }, (_, i) => flushed(day0 + i * 1000, { bytes: 10_000 }))
    const now = day0 + 3 * DAY
    expect(merges(plan(input(manifest([large, late[0]!]), now)))).toEqual([])
    const few = settle(manifest([large, ...late.slice(0, 10)]), now)
    expect(few.manifest.blocks.map(({ ulid }) => ulid)).toContain(large.ulid)
    expect(few.manifest.blocks).toHaveLength(2)
    expect(settle(manifest([large, ...late]), now).manifest.blocks).toHaveLength(1)
  })

  it('PLAN-1, PLAN-3, PLAN-4: never mixes, shares no block, ends, and has nothing to do afterwards', () => {
    fc.assert(
      fc.property(fc.array(anyBlock, { maxLength: 40 }), fc.integer({ min: 0, max: 12 * 24 }), (given, hours) => {
        const nowMs = day0 + hours * HOUR
        const blocks = given.map(({ entry }) => entry)
        const aside = new Set(given.filter(({ isAside }) => isAside).map(({ entry }) => entry.ulid))
        const deletes = ['d1', 'd2'].map((id) =>
          deletion(
            id,
            given.filter((each) => each.deletes.includes(id)).map(({ entry }) => entry),
            { undoUntilMs: day0 + 20 * DAY },
          ),
        )
        const isAside = (ulid: string) => aside.has(ulid)
        const first = manifest(blocks, { deletes })
        const steps = merges(plan(input(first, nowMs, { isAside })))
        const all = steps.flatMap(({ sources }) => ulids(sources))
        expect(new Set(all).size).toBe(all.length)
        const { manifest: after, steps: done } = settle(first, nowMs, { isAside })
        for (const { sources } of done) {
          expect(sources.length).toBeGreaterThan(1)
          expect(sources.length).toBeLessThanOrEqual(settings.sourcesMax)
          expect(sources.some(({ ulid, resolutionMs }) => aside.has(ulid) || resolutionMs !== 0)).toBe(false)
          const together = {
            minTime: Math.min(...sources.map((b) => b.minTime)),
            maxTime: Math.max(...sources.map((b) => b.maxTime)),
          }
          expect(alignedRange(block(together), DAY)).toBeDefined()
          const size = sources.reduce((sum, { bytes }) => sum + bytes, 0)
          for (const { bytes } of sources) expect(size).toBeGreaterThanOrEqual(bytes * (1 + settings.lateRatio)) // PLAN-2
        }
        expect(plan(input(after, nowMs, { isAside }))).toEqual([])
      }),
      { numRuns: 300 },
    )
  })

  it('PLAN-2: late blocks without end rewrite no byte more often than a logarithm', () => {
    fc.assert(
      fc.property(fc.array(fc.integer({ min: 1, max: 5_000 }), { minLength: 50, maxLength: 400 }), (sizes) => {
        const nowMs = day0 + 5 * DAY
        let at = manifest([
          block({ minTime: day0, maxTime: day0 + DAY, bytes: 100_000, origin: { kind: 'compaction', level: 2 } }),
        ])
        let arrived = 100_000
        let written = 0
        for (const bytes of sizes) {
          arrived += bytes
          at = manifest([...at.blocks, flushed(day0 + HOUR, { bytes })])
          const { manifest: after, steps } = settle(at, nowMs)
          at = after
          for (const step of steps) written += step.sources.reduce((sum, block) => sum + block.bytes, 0)
        }
        const bound = Math.log(arrived) / Math.log(1 + settings.lateRatio)
        expect(written / arrived).toBeLessThanOrEqual(bound)
        expect(at.blocks.length).toBeLessThanOrEqual(2 + Math.log(arrived) / Math.log(1 / settings.lateRatio))
      }),
      { numRuns: 40 },
    )
  })

  it('backfilled weeks are merged among themselves, never with days', () => {
    const week = 7 * DAY
    const start = Math.floor(day0 / (4 * week)) * 4 * week
    const wide = [0, 1, 2].map(() => block({ minTime: start, maxTime: start + 3 * week }))
    const inside = [0, 1].map(() => flushed(start + DAY))
    const steps = merges(plan(input(manifest([...wide, ...inside]), day0 + 60 * DAY)))
    expect(steps.map(({ sources }) => ulids(sources)).sort()).toEqual([ulids(wide), ulids(inside)].sort())
  })
})

describe('deletes and retention', () => {
  it('a block that waits for a delete is rewritten after the undo window, alone, and the entry settles', () => {
    const blocks = [flushed(day0), flushed(day0 + HOUR)]
    const deletes = [deletion('d1', [blocks[0]!])]
    const before = plan(input(manifest(blocks, { deletes }), day0 + DAY))
    expect(merges(before)).toEqual([])
    const nowMs = day0 + DAY + 1
    const late = manifest(blocks, { deletes })
    expect(plan(input(late, nowMs)).map(({ kind }) => kind)).toEqual(['settle'])
    const removing = withSettled(late, input(late, nowMs))!
    expect(removing.deletes).toMatchObject([{ state: 'removing' }])
    const [step] = merges(plan(input(removing, nowMs)))
    expect(step).toMatchObject({ why: 'delete', sources: [blocks[0]] })
    const after = merged(removing, step!, nowMs)
    expect(after.deletes[0]!.blocks).toEqual([])
    expect(plan(input(after, nowMs)).map(({ kind }) => kind)).toEqual(['settle', 'merge'])
  })

  it('what is older than all that is kept goes whole; a rule rewrites a block once', () => {
    const file = 'default: { keep: 30d, rules: [{ selector: \'{env="dev"}\', keep: 7d }] }'
    const policy = policiesFrom({ keepMs: 0, keepBytesMax: 0, downsample: false }, file).of('acme')
    const blocks = [40, 20, 3].map((days) => block({ minTime: day0 - days * DAY, maxTime: day0 - (days - 1) * DAY }))
    const steps = plan(input(manifest(blocks), day0, { policy }))
    expect(steps).toMatchObject([
      { kind: 'drop', why: 'age', sources: [blocks[0]] },
      { kind: 'merge', why: 'retention', sources: [blocks[1]], rules: policy.ruleIds },
    ])
    const after = merged(manifest(blocks.slice(1)), merges(steps)[0]!, day0)
    expect(plan(input(after, day0, { policy }))).toEqual([])
  })

  it('PLAN-5: nothing is too old by more than came in since: a clock that is a year ahead takes nothing away', () => {
    const file = 'default: { keep: 30d, rules: [{ selector: \'{env="dev"}\', keep: 7d }] }'
    const policy = policiesFrom({ keepMs: 0, keepBytesMax: 0, downsample: false }, file).of('acme')
    const blocks = [40, 20, 3].map((days) => block({ minTime: day0 - days * DAY, maxTime: day0 - (days - 1) * DAY }))
    const yearAhead = (newestMs: number | undefined) =>
      plan({ ...input(manifest(blocks), day0 + 365 * DAY, { policy }), newestMs })
    expect(yearAhead(undefined)).toMatchObject([{ kind: 'drop', sources: blocks }])
    expect(yearAhead(day0)).toEqual([
      ...plan(input(manifest(blocks), day0 + DAY, { policy })).map((step) =>
        expect.objectContaining({ kind: step.kind }),
      ),
    ])
    expect(yearAhead(day0)[0]).toMatchObject({ kind: 'drop', sources: [blocks[0]] })
  })

  it('above its bytes a tenant loses the oldest blocks', () => {
    const policy = { ...forEver, bytesMax: 2_500 }
    const blocks = [0, 1, 2, 3].map((i) => block({ minTime: day0 + i * DAY, maxTime: day0 + (i + 1) * DAY }))
    expect(plan(input(manifest(blocks), day0 + 9 * DAY, { policy }))).toMatchObject([
      { kind: 'drop', why: 'size', sources: [blocks[0], blocks[1]] },
    ])
  })

  it('PLAN-3: a clock that jumps by minutes between plans changes nothing that is settled', () => {
    fc.assert(
      fc.property(fc.array(anyBlock, { maxLength: 30 }), fc.integer({ min: -300_000, max: 300_000 }), (given, jump) => {
        const nowMs = day0 + 10 * DAY + 7 * 60_000
        const { manifest: after } = settle(manifest(given.map(({ entry }) => entry)), nowMs)
        expect(merges(plan(input(after, nowMs + jump)))).toEqual([])
      }),
      { numRuns: 50 },
    )
  })
})

describe('downsampling', () => {
  const policy = { ...forEver, downsample: true }
  const raw = block({ minTime: day0, maxTime: day0 + DAY, origin: { kind: 'compaction', level: 3 } })

  it('windows of 5 m after 40 h, of 1 h after 10 d, again when raw blocks have joined', () => {
    const at = (blocks: readonly BlockEntry[], hours: number) =>
      plan(input(manifest(blocks), day0 + DAY + hours * HOUR, { policy }))
    expect(at([raw], 39)).toEqual([])
    expect(at([raw], 40)).toMatchObject([{ kind: 'downsample', resolutionMs: 300_000, sources: [raw] }])
    expect(at([raw], 240)).toHaveLength(2)
    const fine = block({ ...raw, ulid: 'fine', resolutionMs: 300_000, aggregate: 'last', rawUlids: [raw.ulid] })
    expect(at([raw, fine], 40)).toEqual([])
    const late = flushed(day0, { bytes: 1 })
    expect(at([raw, fine, late], 40)).toMatchObject([{ kind: 'downsample', sources: [raw, late], replaces: [fine] }])
  })
})
