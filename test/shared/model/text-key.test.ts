import fc from 'fast-check'
import { expect, it } from 'vitest'
import { labelsKey } from '../../../shared/model/labels.ts'
import { keyPart, textsKey } from '../../../shared/model/text-key.ts'
import { keyIgnoring, keyOn } from '../../../shared/promql/exec/labels.ts'

/** Whatever has ever been a separator, looks like a length, or is no text at all. */
const piece = fc.constantFrom(
  ...[
    'a',
    'b',
    '',
    'ÿ',
    'þ',
    '\u0000',
    '\u0001',
    '\u0002',
    '\uffff',
    '1:',
    ':',
    '|',
    '=',
    ',',
    '"',
    '\\',
    '\n',
    '/',
    ' ',
  ],
  ...['\ud800', '\udc00', '\udfff', '😀'],
)
const text = fc.oneof(
  fc.array(piece, { maxLength: 4 }).map((pieces) => pieces.join('')),
  fc.string({ unit: 'binary' }),
)

/** Two lists, often alike but for where one text ends and the next begins. */
const twoLists = fc.oneof(
  fc.tuple(fc.array(text, { maxLength: 5 }), fc.array(text, { maxLength: 5 })),
  fc.tuple(fc.array(text, { minLength: 1, maxLength: 4 }), fc.nat(60), piece).map(([list, at, joined]) => {
    const whole = list.join(joined)
    const cut = at % (whole.length + 1)
    return [list, [whole.slice(0, cut), whole.slice(cut)]] as [string[], string[]]
  }),
)

it.each(['ÿ', 'þ', '\u0000', '\ud800', ',', '"', ' '])('%j in a value is no border', (text) => {
  const of = (set: readonly string[]) => [labelsKey(set), keyIgnoring(set, new Set()), keyOn(set, ['a', 'b'])]
  const [one, two] = [of(['a', `1${text}b${text}2`]), of(['a', '1', 'b', '2'])]
  for (const [i, key] of one.entries()) expect(key).not.toBe(two[i])
  expect(keyIgnoring(['a', '1ÿbþ2'], new Set())).not.toBe(keyIgnoring(['a', '1', 'b', '2'], new Set()))
})

const same = (a: readonly string[], b: readonly string[]) => JSON.stringify(a) === JSON.stringify(b)

it('two lists of texts share a key exactly when they are equal, whatever they hold', () => {
  fc.assert(
    fc.property(twoLists, ([a, b]) => {
      expect(textsKey(a) === textsKey(b)).toBe(same(a, b))
      expect(textsKey([...a])).toBe(textsKey(a))
    }),
    { numRuns: 5_000 },
  )
})

it('texts of any length keep their key apart from others', () => {
  for (const length of [254, 255, 256, 0xfffe, 0xffff, 0x10000, 200_000]) {
    const long = 'x'.repeat(length)
    expect(textsKey([long, 'y'])).not.toBe(textsKey([`${long}y`]))
    expect(textsKey([long.slice(1), `x${keyPart('y')}`])).not.toBe(textsKey([long, 'y']))
    expect(textsKey([keyPart(long)])).not.toBe(textsKey([long]))
    const wrapped = `z${String.fromCharCode(length % 0x10000)}${long}`
    expect(textsKey([wrapped])).not.toBe(textsKey(['z', long]))
  }
})

const names = ['a', 'b', 'ÿ', 'aÿb'] as const
const labels = fc
  .array(fc.tuple(fc.constantFrom(...names), text), { maxLength: 4 })
  .map((pairs) => [...new Map(pairs)].filter(([, value]) => value !== '').flat())

it('label sets share a key exactly when they agree on the names that count', () => {
  const parted = new Set<string>(['a'])
  const values = (set: readonly string[], wanted: readonly string[]) => {
    const found = new Map(Array.from({ length: set.length / 2 }, (_, i) => [set[2 * i]!, set[2 * i + 1]!]))
    return wanted.map((name) => found.get(name) ?? '')
  }
  fc.assert(
    fc.property(labels, labels, (a, b) => {
      expect(labelsKey(a) === labelsKey(b)).toBe(same(a, b))
      for (const on of [['a'], ['a', 'b'], ['aÿb', 'ÿ', 'b']]) {
        expect(keyOn(a, on) === keyOn(b, on)).toBe(same(values(a, on), values(b, on)))
      }
      const rest = (set: readonly string[]) => set.filter((_, i) => !parted.has(set[i - (i % 2)]!))
      expect(keyIgnoring(a, parted) === keyIgnoring(b, parted)).toBe(same(rest(a), rest(b)))
    }),
    { numRuns: 2_000 },
  )
})
