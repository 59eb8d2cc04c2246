// The changes that a compactor makes to a manifest, against what others have done to it while the blocks were merged.
import { describe, expect, it } from 'vitest'
import {
  type Replacement,
  withDownsampled,
  withReplacement,
} from '../../../services/compactor/merge/manifest-changes.ts'
import { emptyManifest } from '../../../shared/blocks/codec.ts'
import type { BlockEntry, DeleteEntry, Manifest } from '../../../shared/contracts/blocks.ts'

const block = (ulid: string, over: Partial<BlockEntry> = {}): BlockEntry => ({
  ...{ ulid, minTime: 0, maxTime: 10, seriesCount: 1, sampleCount: 1, chunkCount: 1, bytes: 1, resolutionMs: 0 },
  ...{ metaSha256: `meta of ${ulid}`, origin: { kind: 'flush', partition: 0, segment: 1 } },
  ...over,
})
const deletion = (blocks: readonly string[], over: Partial<DeleteEntry> = {}): DeleteEntry => ({
  ...{ id: 'd1', kind: 'series', state: 'active', selectors: [[]], startMs: 0, endMs: 10, askedAtMs: 0, askedBy: 'me' },
  ...{ undoUntilMs: 100, positions: {}, blocks },
  ...over,
})
const manifest = (blocks: readonly BlockEntry[], over: Partial<Manifest> = {}): Manifest => ({
  ...emptyManifest('acme'),
  ...{ version: 1, blocks },
  ...over,
})

const [a, b, c, merged] = ['A', 'B', 'C', 'M'].map((ulid) => block(ulid)) as [
  BlockEntry,
  BlockEntry,
  BlockEntry,
  BlockEntry,
]
const replacement: Replacement = {
  ...{ sources: [a, b], results: [merged], applied: [], reason: 'compacted', isComplete: true, nowMs: 50 },
}
const names = (made: Manifest | undefined) => made?.blocks.map(({ ulid }) => ulid)
const overtaken = expect.objectContaining({ code: 'compaction-overtaken' })

describe('a merge', () => {
  it('COMMIT-1: takes sources out and puts results in, in one change; once', () => {
    const made = withReplacement(manifest([a, b, c]), replacement)!
    expect(names(made)).toEqual(['C', 'M'])
    expect(made.retired.map(({ ulid }) => ulid)).toEqual(['A', 'B'])
    expect(withReplacement(made, replacement)).toBeUndefined()
  })

  it.each([
    ['is not listed any more', [a, c]],
    ['was made anew under its name', [a, { ...b, metaSha256: 'another' }, c]],
  ])('COMMIT-1, LOG-17: is refused when a source %s', (_, blocks) => {
    expect(() => withReplacement(manifest(blocks), replacement)).toThrow(overtaken)
  })

  it('COMMIT-2: is refused when a deletion came over some of its sources only; over all of them it takes it over', () => {
    const half = manifest([a, b, c], { deletes: [deletion(['A', 'C'])] })
    expect(() => withReplacement(half, replacement)).toThrow(overtaken)
    const whole = manifest([a, b, c], { deletes: [deletion(['A', 'B', 'C'])] })
    expect(withReplacement(whole, replacement)!.deletes[0]!.blocks).toEqual(['C', 'M'])
    const undone = manifest([a, b, c], { deletes: [deletion(['A'], { state: 'undone' })] })
    expect(names(withReplacement(undone, replacement))).toEqual(['C', 'M'])
  })

  it('COMMIT-3: is refused when its result was retired meanwhile: its objects are about to go', () => {
    const retired = [{ ulid: 'M', retiredAtMs: 1, reason: 'compacted' as const }]
    expect(() => withReplacement(manifest([a, b], { retired }), replacement)).toThrow(overtaken)
  })

  it.each([
    ['taken back', deletion(['A', 'B'], { state: 'undone' })],
    ['not being removed', deletion(['A', 'B'])],
    ['over one source more', deletion(['A'], { state: 'removing' })],
  ])('DELETE-12: is refused when it removed samples for a deletion that is %s by now', (_, entry) => {
    const removing = { ...replacement, applied: ['d1'] }
    expect(() => withReplacement(manifest([a, b], { deletes: [entry] }), removing)).toThrow(overtaken)
  })

  it('DELETE-12: is done with a deletion whose samples it left out', () => {
    const entry = deletion(['A', 'B', 'C'], { state: 'removing' })
    const made = withReplacement(manifest([a, b, c], { deletes: [entry] }), { ...replacement, applied: ['d1'] })!
    expect(made.deletes[0]!.blocks).toEqual(['C'])
  })

  it('COMMIT-4: windows know their raw blocks under the new name only when no sample is missing there', () => {
    const windows = block('W', { resolutionMs: 300_000, rawUlids: ['A', 'B', 'C'] })
    const rawOf = (isComplete: boolean) =>
      withReplacement(manifest([a, b, c, windows]), { ...replacement, isComplete })!.blocks.find(
        ({ ulid }) => ulid === 'W',
      )!.rawUlids
    expect(rawOf(true)).toEqual(['C', 'M'])
    expect(rawOf(false)).toEqual(['A', 'B', 'C'])
  })
})

describe('windows', () => {
  const downsampled = { sources: [a, b], replaces: [], results: [block('W', { resolutionMs: 300_000 })], nowMs: 50 }

  it('COMMIT-1: are listed only while all their raw blocks are', () => {
    expect(names(withDownsampled(manifest([a, b]), downsampled))).toEqual(['A', 'B', 'W'])
    expect(() => withDownsampled(manifest([a]), downsampled)).toThrow(overtaken)
  })

  it('COMMIT-2: are refused when a deletion came over one of their raw blocks', () => {
    expect(() => withDownsampled(manifest([a, b], { deletes: [deletion(['A'])] }), downsampled)).toThrow(overtaken)
  })
})
