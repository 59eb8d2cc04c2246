import fc from 'fast-check'
import { expect, test } from 'vitest'
import { Dictionary, NONE } from '../../../services/distributor/log/dictionary.ts'

const region = (text: string) => Buffer.from(text)
const add = (dictionary: Dictionary, tenant: number, text: string, previous = NONE) => {
  const bytes = region(text)
  const series = { labels: ['__name__', text], hash: text.length, partition: 0 }
  return dictionary.add(tenant, { bytes, start: 0, end: bytes.length }, series, previous)
}
const find = (dictionary: Dictionary, tenant: number, text: string, previous = NONE) =>
  dictionary.find(tenant, region(text), 0, region(text).length, previous)

test('DICTIONARY-1: every series finds its own ref, whatever was asked before it, as a map would', () => {
  // Few that come again and again, in any order: those are the ones that are foreseen, rightly or not.
  const text = fc.oneof(
    { weight: 4, arbitrary: fc.constantFrom('a', 'b', 'ab', 'ba') },
    fc.string({ minLength: 1, maxLength: 12 }),
  )
  const visit = fc.record({ tenant: fc.nat(2), text, isPredicted: fc.boolean() })
  fc.assert(
    fc.property(fc.array(visit, { maxLength: 300 }), (visits) => {
      const dictionary = new Dictionary()
      const model = new Map<string, number>()
      let previous = NONE
      for (const { tenant, text, isPredicted } of visits) {
        const key = `${tenant}/${text}`
        const hint = isPredicted ? previous : NONE
        const found = find(dictionary, tenant, text, hint)
        expect(found).toBe(model.get(key) ?? NONE)
        previous = found === NONE ? add(dictionary, tenant, text, hint) : found
        model.set(key, previous)
      }
    }),
  )
})

test('DICTIONARY-2: refs keep their labels while the dictionary grows over many pages', () => {
  const dictionary = new Dictionary()
  const name = (i: number) => `metric_${i}_${'x'.repeat(i % 700)}`
  for (let i = 0; i < 6000; i++) add(dictionary, 0, name(i), i - 1)
  expect(dictionary.size).toBe(6000)
  for (let i = 0; i < 6000; i++) {
    expect(find(dictionary, 0, name(i), i - 1)).toBe(i)
    expect(find(dictionary, 0, name(i))).toBe(i)
    expect(find(dictionary, 1, name(i))).toBe(NONE)
    expect(dictionary.labelsOf(i)).toEqual(['__name__', name(i)])
  }
})

test('a forgotten series looks new again, and its old ref keeps its meaning', () => {
  const dictionary = new Dictionary()
  const first = add(dictionary, 0, 'a')
  dictionary.forget(first)
  expect(find(dictionary, 0, 'a')).toBe(NONE)
  const second = add(dictionary, 0, 'a')
  expect(second).not.toBe(first)
  expect(find(dictionary, 0, 'a')).toBe(second)
  expect(dictionary.labelsOf(first)).toEqual(['__name__', 'a'])
})

test('countUsed tells what was used since it was last asked', () => {
  const dictionary = new Dictionary()
  for (let i = 0; i < 10; i++) add(dictionary, 0, `m${i}`)
  dictionary.used[3] = 1
  dictionary.used[7] = 1
  expect(dictionary.countUsed()).toBe(2)
  expect(dictionary.countUsed()).toBe(0)
})
