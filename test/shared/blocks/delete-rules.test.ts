// What a deletion means, rule by rule, as changes of a manifest; and that each part of a rule is needed: left out, its test turns around.
import { afterEach, describe, expect, test } from 'vitest'
import {
  DELETES_BYTES_MAX,
  DELETES_MAX,
  hidersOf,
  hidingIn,
  isHiding,
  mayMerge,
  PAST_DELETES_MAX,
  standingFor,
  tenantPlaces,
  whyNotListed,
  withDelete,
  withEnded,
  withListed,
  withPositions,
  withReplaced,
  withUndone,
  withWindowsEnded,
} from '../../../shared/blocks/delete-rules.ts'
import { type DeleteRule, leaveOut } from '../../../shared/blocks/left-out.ts'
import type { BlockEntry, DeleteEntry, Manifest } from '../../../shared/contracts/blocks.ts'
import type { Place } from '../../../shared/model/place.ts'

const HOUR = 3_600_000
const NOW = 100 * HOUR
const looker = { nowMs: NOW, flushed: () => 0 }
const flushedTo = (segment: number, nowMs = NOW) => ({ nowMs, flushed: () => segment })
const at = (segment: number, seq: number, incarnation = 'one'): Place => ({ incarnation, segment, seq })

const empty: Manifest = {
  ...{ tenant: 'acme', version: 7, previous: '', flushed: {}, blocks: [], retired: [], deletes: [], fence: 0 },
}

let made = 0
function block(
  segment: number,
  cut: number,
  over: Partial<{ partition: number; incarnation: string }> = {},
): BlockEntry {
  const counts = { seriesCount: 1, sampleCount: 1, chunkCount: 1, bytes: 1, metaSha256: '', resolutionMs: 0 }
  const origin = { kind: 'flush', partition: 0, segment, incarnation: 'one', cut, ...over } as const
  return { ulid: `b${++made}`, minTime: 0, maxTime: 1000, ...counts, origin }
}

function entry(
  state: DeleteEntry['state'],
  positions: DeleteEntry['positions'],
  over: Partial<DeleteEntry> = {},
): DeleteEntry {
  return {
    ...{ id: 'd', kind: 'series', state, selectors: [[{ name: 'a', operator: '=', value: 'b' }]] },
    ...{ startMs: 0, endMs: 999, askedAtMs: 1, askedBy: 'test', undoUntilMs: NOW - 1, positions, blocks: [] },
    ...over,
  }
}
const withDeletes = (...deletes: DeleteEntry[]): Manifest => ({ ...empty, deletes })
const { state: _, positions: __, blocks: ___, ...asked } = entry('placing', {})
const add = (to: Manifest, id: string, asOf = to.version) =>
  withDelete(to, { entry: { ...asked, id }, partitions: [0, 1], asOf }, looker)
const place = (to: Manifest, found: readonly [number, Place][]) =>
  withPositions(to, 'd', { found: new Map(found), nowMs: NOW, undoMs: HOUR })
const list = (to: Manifest, segment: number, blocks: readonly BlockEntry[], digest?: string) =>
  withListed(to, { partition: 0, segment, blocks, ...(digest !== undefined && { digest }) })
const ulids = (blocks: readonly BlockEntry[]) => blocks.map(({ ulid }) => ulid)

afterEach(() => leaveOut([]))
/** The rule left out changes what is found. */
function isNeeded<T>(rule: DeleteRule, find: () => T, without: T): void {
  expect(find()).not.toEqual(without)
  leaveOut([rule])
  expect(find()).toEqual(without)
  leaveOut([])
}

describe('asking and placing', () => {
  test('DELETE-1: the entry names all partitions and all blocks within its times, and hides nothing', () => {
    const blocks = [block(1, 1), { ...block(1, 2), minTime: 1000, maxTime: 2000 }]
    const { deletes } = add({ ...empty, blocks }, 'd')!
    expect(deletes).toMatchObject([
      { state: 'placing', positions: { 0: null, 1: null }, blocks: ulids(blocks.slice(0, 1)) },
    ])
    expect([deletes.filter(isHiding), hidersOf(deletes, blocks[0]!.ulid)]).toEqual([[], []])
    expect(hidingIn({ ...empty, deletes }, 0)).toEqual([])
  })

  test('DELETE-4: it is in force once all positions are known, of which the first counts', () => {
    const placing = withDeletes(entry('placing', { 0: null, 1: null }))
    const half = place(placing, [[0, at(3, 30)]])!
    expect(half.deletes).toMatchObject([{ state: 'placing', positions: { 0: at(3, 30), 1: null } }])
    const whole = place(half, [
      [0, at(4, 44)],
      [1, at(2, 9)],
      [2, at(1, 1)],
    ])!
    expect(whole.deletes[0]!.positions).toEqual({ 0: at(3, 30), 1: at(2, 9) })
    expect(whole.deletes[0]).toMatchObject({ state: 'active', undoUntilMs: NOW + HOUR })
    isNeeded('first-wins', () => place(whole, [[0, at(4, 44)]])?.deletes[0]?.positions[0], at(4, 44))
    isNeeded('all-placed', () => place(placing, [[0, at(3, 30)]])!.deletes[0]!.state, 'active')
    for (const state of ['active', 'removing', 'removed', 'undone'] as const)
      expect(place(withDeletes(entry(state, { 0: null })), [[0, at(3, 30)]]), state).toBeUndefined()
  })

  test('DELETE-4: a position in a segment that is listed already is not taken: what a supplement brings stood on the other side', () => {
    const placing = { ...withDeletes(entry('placing', { 0: null })), flushed: { 0: 3 } }
    expect(place(placing, [[0, at(4, 40)]])!.deletes[0]!.state).toBe('active')
    isNeeded('floor', () => place(placing, [[0, at(3, 30)]])?.deletes[0]?.state, 'active')
  })

  test('DELETE-6: an id is made once, and not when it may have been forgotten since it was asked for', () => {
    for (const state of ['placing', 'active', 'removing', 'removed', 'undone'] as const)
      expect(add(withDeletes(entry(state, {})), 'd'), state).toBeUndefined()
    const cut = { ...empty, historyCut: 7 }
    expect(add(cut, 'd', 7)!.deletes).toHaveLength(1)
    const made = () => {
      try {
        return add(cut, 'd', 6)!.deletes.length
      } catch (error) {
        return (error as { code: string }).code
      }
    }
    expect(made()).toBe('err-carillon-ask-again')
    isNeeded('as-of-version', made, 1)
  })

  test('DELETE-6: the same id with another meaning is refused, whatever became of the first', () => {
    const others: Partial<DeleteEntry>[] = [
      { kind: 'tenant' },
      { startMs: 1 },
      { endMs: 1000 },
      { selectors: [[{ name: 'a', operator: '=', value: 'c' }]] },
      { selectors: [...asked.selectors, ...asked.selectors] },
    ]
    for (const state of ['placing', 'active', 'removing', 'removed', 'undone'] as const) {
      for (const other of others)
        expect(() => add(withDeletes(entry(state, {}, other)), 'd')).toThrowError(
          expect.objectContaining({ code: 'err-carillon-id-used', status: 409 }),
        )
    }
  })

  test('DELETE-6: what comes into force takes the place of what was asked for before it with the same meaning', () => {
    const placing = (id: string, over: Partial<DeleteEntry> = {}) =>
      entry('placing', { 0: null }, { id, blocks: ['b'], ...over })
    const before = withDeletes(
      placing('first'),
      placing('other', { endMs: 1000 }),
      entry('active', { 0: at(1, 1) }, { id: 'old' }),
      placing('d'),
      placing('later'),
    )
    const states = () => place(before, [[0, at(3, 30)]])!.deletes.map(({ id, state }) => `${id} ${state}`)
    expect(states()).toEqual(['first undone', 'other placing', 'old active', 'd active', 'later placing'])
    const after = place(before, [[0, at(3, 30)]])!
    expect(after.deletes[0]).toMatchObject({ blocks: [], endedAtMs: NOW, endedBy: 'test', overtakenBy: 'd' })
    expect(['first', 'd', 'later', 'none'].map((id) => standingFor(after, id)?.id)).toEqual([
      'd',
      'd',
      'later',
      undefined,
    ])
    expect(() => withUndone(after, 'first', { by: 'me', nowMs: NOW })).toThrowError(/deletion d of the same.*take that/)
    const undone = withUndone(after, 'd', { by: 'me', nowMs: NOW })!
    expect(withUndone(undone, 'first', { by: 'me', nowMs: NOW }), 'both are').toBeUndefined()
    isNeeded('overtakes', () => states()[0], 'first placing')
  })

  test('DELETE-6: what may have been repeated since it was asked for is not made', () => {
    const made = add(empty, 'd')!
    expect(made.deletes).toMatchObject([{ id: 'd', madeAt: 8 }])
    const standing = { ...made, version: 8 }
    const late = (asOf: number, of: Manifest = standing) => {
      try {
        return add(of, 'late', asOf)!.deletes.length
      } catch (error) {
        return (error as { code: string }).code
      }
    }
    expect(late(8)).toBe(2)
    expect(late(7)).toBe('err-carillon-asked-meanwhile')
    expect(late(7, { ...standing, deletes: [{ ...standing.deletes[0]!, endMs: 5 }] }), 'another meaning').toBe(2)
    isNeeded('asked-since', () => late(7), 2)
  })
})

describe('listing', () => {
  test('DELETE-9: what is listed joins what has no position yet or lies behind it, and nothing else', () => {
    const cases: readonly [DeleteEntry['state'], Place | null, boolean[]][] = [
      ['placing', null, [true, true, true, true]],
      ['placing', at(3, 35), [true, false, false, true]],
      ['active', at(3, 35), [true, false, false, true]],
      ['removing', at(3, 35), [true, false, false, true]],
      ['removed', at(3, 35), [true, false, false, true]],
      ['undone', at(3, 35), [false, false, false, false]],
      ['active', at(3, 35, 'two'), [false, false, false, true]],
      ['active', at(4, 1, 'two'), [true, true, true, true]],
    ]
    for (const [state, position, joins] of cases) {
      // The last one: its mark was lost, and so it has the number of the segment before; sequences tell.
      const blocks = [block(3, 30), block(3, 35), block(3, 36), block(2, 34)]
      const { deletes } = list(
        withDeletes(entry(state, { 0: position }), entry('active', {}, { id: 'later' })),
        3,
        blocks,
      )!
      expect(
        blocks.map(({ ulid }) => deletes[0]!.blocks.includes(ulid)),
        `${state} ${position?.seq}`,
      ).toEqual(joins)
      expect(deletes[1]!.blocks, 'a partition that came later').toEqual([])
    }
    const placing = withDeletes(entry('placing', { 0: null }))
    isNeeded('placing-joins', () => list(placing, 3, [block(3, 30)], 'x')!.deletes[0]!.blocks.length, 0)
    const active = withDeletes(entry('active', { 0: at(3, 35) }))
    isNeeded('compare', () => list(active, 3, [block(3, 40)], 'x')!.deletes[0]!.blocks.length, 1)
  })

  test('DELETE-10: what a flush lists is written down with it, once; a supplement changes nothing of that', () => {
    const first = list(empty, 3, [block(3, 30)], 'aa')!
    expect(first).toMatchObject({ flushed: { 0: 3 }, digests: { 0: { segment: 3, digest: 'aa' } } })
    expect(list(first, 3, [block(3, 30)], 'bb'), 'another leader was first').toBeUndefined()
    const supplement = list(first, 3, [block(3, 31)])!
    expect([supplement.digests, supplement.blocks.length]).toEqual([first.digests, 2])
    expect(list(supplement, 3, supplement.blocks), 'all of it is listed').toBeUndefined()
    expect(
      list({ ...empty, retired: [{ ulid: 'r', retiredAtMs: 0, reason: 'deleted' }] }, 3, [
        { ...block(3, 1), ulid: 'r' },
      ]),
    ).toBeUndefined()
  })

  test('DELETE-11: a supplement of before opens a deletion again that was done, and raises what is listed (DELETE-4)', () => {
    const removed = withDeletes(entry('removed', { 0: at(3, 35) }, { endedAtMs: NOW }))
    const before = block(3, 30)
    const next = list(removed, 3, [before, block(3, 40)])!
    expect(next.deletes[0]).toMatchObject({ state: 'removing', blocks: [before.ulid] })
    expect(next.deletes[0]!.endedAtMs).toBeUndefined()
    expect([next.flushed, list(removed, 3, [block(3, 40)])!.deletes[0]!.state]).toEqual([{ 0: 3 }, 'removed'])
    isNeeded('sup-joins-ended', () => list(removed, 3, [before])!.deletes[0]!.state, 'removed')
  })

  test('DELETE-11: what lies before forgotten positions is refused; before the tomb of a tenant it is gone', () => {
    const old = { ...empty, forgotten: { 0: at(3, 35) } }
    expect([block(3, 30), block(3, 40), block(3, 30, { partition: 1 })].map((each) => whyNotListed(old, each))).toEqual(
      [...['forgotten', undefined, undefined]],
    )
    isNeeded('forgotten', () => list(old, 3, [block(3, 30)])?.blocks.length, 1)
    const buried = { ...empty, tomb: { 0: at(3, 35) } }
    expect(whyNotListed(buried, block(3, 30))).toBe('buried')
    isNeeded('tombstone', () => list(buried, 3, [block(3, 30)])?.blocks.length, 1)
  })
})

describe('taking back and removing', () => {
  test('DELETE-12: only what is being placed or in force is taken back, whatever the clock says', () => {
    for (const state of ['placing', 'active'] as const) {
      const { deletes } = withUndone(withDeletes(entry(state, { 0: null }, { blocks: ['b'] })), 'd', {
        by: 'me',
        nowMs: NOW + 1e12,
      })!
      expect(deletes).toMatchObject([{ state: 'undone', blocks: [], endedBy: 'me' }])
    }
    const over = (state: DeleteEntry['state'], undoUntilMs: number) => {
      try {
        return withUndone(withDeletes(entry(state, {}, { undoUntilMs })), 'd', { by: 'me', nowMs: NOW })?.deletes[0]
          ?.state
      } catch (error) {
        return (error as { code: string }).code
      }
    }
    expect([over('undone', NOW), over('removed', NOW + 1)]).toEqual([undefined, 'err-carillon-undo-over'])
    isNeeded('removing', () => over('removing', NOW + 1), 'undone')
  })

  test('DELETE-12: a window that is over, or clean, only begins the removal', () => {
    const open = entry('active', { 0: at(3, 35) }, { undoUntilMs: NOW + 1 })
    const doubtful = entry('active', { 0: at(0, 0) }, { id: 'doubtful', isDoubtful: true })
    expect(withEnded(withDeletes(open, doubtful), looker).deletes.map(({ state }) => state)).toEqual([
      'active',
      'active',
    ])
    expect(withEnded(withDeletes(open), { ...looker, nowMs: NOW + 2 }).deletes[0]!.state).toBe('removing')
    const cleaned = withWindowsEnded(withDeletes(open, doubtful, entry('placing', {}, { id: 'p' })))!
    expect(cleaned.deletes.map(({ state }) => state)).toEqual(['removing', 'removing', 'placing'])
    expect(withWindowsEnded(cleaned)).toBeUndefined()
  })

  test('DELETE-12: removed is what has no blocks and no unflushed segment before it', () => {
    const removing = entry('removing', { 0: at(3, 35), 1: at(5, 1) })
    expect(withEnded(withDeletes({ ...removing, blocks: ['b'] }), flushedTo(9)).deletes[0]!.state).toBe('removing')
    expect(withEnded(withDeletes(removing), flushedTo(5)).deletes[0]).toMatchObject({
      state: 'removed',
      endedAtMs: NOW,
    })
    isNeeded('drained', () => withEnded(withDeletes(removing), flushedTo(4)).deletes[0]!.state, 'removed')
  })

  test('DELETE-14: blocks become one only if each deletion holds all of them or none, those that are being placed, too', () => {
    for (const state of ['placing', 'active', 'removing'] as const) {
      const deletes = [entry(state, {}, { blocks: ['a', 'b'] })]
      expect([mayMerge(deletes, ['a', 'b']), mayMerge(deletes, ['c', 'd'])]).toEqual([true, true])
      isNeeded('merge-same', () => mayMerge(deletes, ['b', 'c']), true)
      const merged = withReplaced(deletes, { sources: ['a', 'b'], results: ['r'] })
      expect(merged[0]!.blocks).toEqual(['r'])
      expect(withReplaced(deletes, { sources: ['a'], results: ['r'], applied: ['d'] })[0]!.blocks).toEqual(['b'])
    }
    expect(mayMerge([entry('undone', {}, { blocks: ['a'] })], ['a', 'b'])).toBe(true)
  })
})

describe('history', () => {
  const past = (count: number, over: Partial<DeleteEntry> = {}) =>
    Array.from({ length: count }, (_, i) =>
      entry('removed', { 0: at(3, 30 + i) }, { id: `p${i}`, endedAtMs: NOW - 2 * HOUR, ...over }),
    )

  test('DELETE-13: of too many the oldest go, and the last of their positions stays', () => {
    const manifest = withDeletes(...past(PAST_DELETES_MAX + 2))
    const next = withEnded(manifest, flushedTo(4))
    expect(next.deletes.map(({ id }) => id)).toEqual(manifest.deletes.slice(2).map(({ id }) => id))
    expect(next).toMatchObject({ historyCut: manifest.version + 1, forgotten: { 0: at(3, 31) } })
    expect(withEnded(next, flushedTo(4)), 'nothing to do').toBe(next)
  })

  test('DELETE-13: none goes within an hour, or before its positions are flushed; what was taken back leaves no place', () => {
    const count = (deletes: readonly DeleteEntry[], flushed: number) =>
      withEnded(withDeletes(...deletes), flushedTo(flushed)).deletes.length
    expect(count(past(PAST_DELETES_MAX + 2), 4)).toBe(PAST_DELETES_MAX)
    isNeeded('history', () => count(past(PAST_DELETES_MAX + 2), 3), PAST_DELETES_MAX)
    isNeeded('history', () => count(past(PAST_DELETES_MAX + 2, { endedAtMs: NOW - HOUR + 1 }), 4), PAST_DELETES_MAX)
    const undone = withEnded(withDeletes(...past(PAST_DELETES_MAX + 1, { state: 'undone' })), flushedTo(0))
    expect([undone.deletes.length, undone.forgotten, undone.historyCut]).toEqual([PAST_DELETES_MAX, undefined, 8])
  })

  test('DELETE-1, DELETE-13: history makes room for what is asked; where none may go, more is refused, and nothing is changed', () => {
    const long = 'x'.repeat(DELETES_BYTES_MAX / 8)
    const large = past(8, { askedBy: long })
    const next = withDelete(
      withDeletes(...large),
      { entry: { ...asked, id: 'new' }, partitions: [0], asOf: 7 },
      flushedTo(4),
    )!
    expect([next.deletes.length, next.deletes.at(-1)!.id, next.historyCut]).toEqual([8, 'new', 8])
    const young = large.map((each) => ({ ...each, endedAtMs: NOW }))
    const many = Array.from({ length: DELETES_MAX }, (_, i) => entry('active', {}, { id: `d${i}` }))
    for (const deletes of [young, many]) {
      const refused = () =>
        withDelete(withDeletes(...deletes), { entry: { ...asked, id: 'new' }, partitions: [0], asOf: 7 }, flushedTo(4))
      expect(refused).toThrow(expect.objectContaining({ code: 'err-carillon-too-many-deletes', status: 429 }))
    }
  })
})

describe('heads and tenants', () => {
  test('DELETE-8: heads hide what is in force or removed, up to its position in their partition', () => {
    for (const state of ['placing', 'active', 'removing', 'removed', 'undone'] as const) {
      const manifest = withDeletes(entry(state, { 0: at(3, 35), 1: null }))
      const hides = ['active', 'removing', 'removed'].includes(state)
      expect(
        hidingIn(manifest, 0).map(({ id, place }) => [id, place]),
        state,
      ).toEqual(hides ? [['d', at(3, 35)]] : [])
      expect(hidingIn(manifest, 1)).toEqual([])
    }
    expect(hidingIn(withDeletes(entry('active', { 0: at(1, 1) }, { kind: 'tenant' })), 0)[0]!.selectors).toEqual([[]])
  })

  test('DELETE-15: a tenant that was removed stays so in every partition, when its deletion has left the history', () => {
    const tenant = entry('removing', { 0: at(3, 35), 1: at(2, 9) }, { kind: 'tenant' })
    const removed = withEnded({ ...withDeletes(tenant), tomb: { 0: at(2, 5) } }, flushedTo(3))
    expect([removed.deletes[0]!.state, removed.tomb]).toEqual(['removed', { 0: at(3, 35), 1: at(2, 9) }])
    const later = { ...removed, deletes: [] }
    expect([tenantPlaces(later, 0), tenantPlaces(later, 0, true), tenantPlaces(later, 7)]).toEqual([
      [at(3, 35)],
      [at(3, 35)],
      [],
    ])
    isNeeded('tombstone', () => tenantPlaces(later, 0), [])
    const active = withDeletes(
      entry('active', { 0: at(3, 35) }, { kind: 'tenant' }),
      entry('active', { 0: at(9, 90) }, { id: 's' }),
    )
    expect([tenantPlaces(active, 0), tenantPlaces(active, 0, true)], 'it may be taken back').toEqual([[at(3, 35)], []])
    expect(withEnded(withDeletes({ ...tenant, kind: 'series' }), flushedTo(3)).tomb).toBeUndefined()
  })
})
