import { expect, test } from 'vitest'
import { ShownEntries } from '../../../shared/bus/shown-entries.ts'
import { bytes } from '../../suites/bus-ground.ts'

const value = bytes('x')

function shownUpTo(...revisions: readonly (readonly [key: string, revision: number])[]): ShownEntries {
  const shown = new ShownEntries()
  shown.begin()
  shown.end()
  for (const [key, revision] of revisions) expect(isNews(shown, key, revision)).toBe(true)
  shown.begin()
  return shown
}

function isNews(shown: ShownEntries, key: string, revision: number, storing = `${revision}`): boolean {
  return shown.isNews({ key, value: storing === 'none' ? undefined : value, revision }, storing)
}

test('a server that is behind shows nothing older than was shown, and nothing to be gone', () => {
  const shown = shownUpTo(['a', 3], ['b', 5], ['c', 6])
  expect(isNews(shown, 'a', 3)).toBe(false)
  expect(isNews(shown, 'b', 4)).toBe(false)
  expect(shown.doubtful()).toEqual(['b', 'c'])
  shown.end()
  expect([isNews(shown, 'b', 5), isNews(shown, 'c', 6)], 'as they stand in the bucket').toEqual([false, false])
  expect([isNews(shown, 'b', 5), isNews(shown, 'b', 7)], 'once it has caught up').toEqual([false, true])
})

test('what stands in the bucket is shown behind a higher revision, and what is gone is', () => {
  const shown = shownUpTo(['a', 3], ['b', 5], ['c', 6])
  expect([isNews(shown, 'a', 3, 'another storing'), isNews(shown, 'b', 4)]).toEqual([true, false])
  expect(shown.doubtful()).toEqual(['b', 'c'])
  shown.end()
  expect([isNews(shown, 'b', 4), isNews(shown, 'c', 0, 'none')]).toEqual([true, true])
  shown.begin()
  expect([isNews(shown, 'a', 3, 'another storing'), isNews(shown, 'b', 4)]).toEqual([false, false])
  expect(shown.doubtful(), 'what was shown to be gone is not missed').toEqual([])
})

test('a deletion of what was never known is shown as it happens, not as one of long ago', () => {
  const shown = new ShownEntries()
  shown.begin()
  expect(isNews(shown, 'a', 3, 'none')).toBe(false)
  shown.end()
  expect(isNews(shown, 'b', 4, 'none')).toBe(true)
})
