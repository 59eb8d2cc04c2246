// Metadata of a metric: every text that is told of it, and no longer than it is.
import { expect, test } from 'vitest'
import { HeldMetadata } from '../../../services/ingester/state/held-metadata.ts'

const at = (segment: number, seq: number) => ({ incarnation: 'life', segment, seq })
const text = (help: string, metric = 'm') => ({ metric, type: 'counter', help, unit: '' })
const helpsOf = (held: HeldMetadata, metric?: string) => held.of('acme', metric).map(({ help }) => help)

test('differing texts of one metric are all held, whichever was told last', () => {
  const held = new HeldMetadata()
  for (let seq = 1; seq <= 6; seq++) held.tell('acme', text(seq % 2 === 0 ? 'A' : 'B'), 1, at(1, seq))
  held.tell('acme', { ...text('A'), type: 'gauge' }, 1, at(1, 7))
  expect(held.of('acme', 'm').map(({ type, help }) => `${type} ${help}`)).toEqual(['counter B', 'counter A', 'gauge A'])
  expect(helpsOf(held, 'other')).toEqual([])
  expect(held.of('globex')).toEqual([])
})

test('a text that nobody tells any more goes when others are told two segments later, wherever an owner began to read', () => {
  const told = [
    [text('old'), 1, at(1, 1)],
    [text('new'), 1, at(1, 2)],
    [text('alone', 'n'), 1, at(1, 3)],
    [text('new'), 3, at(3, 10)],
    [text('old'), 3, at(1, 1)], // stated again: a writer told it in segment 1
    [text('new'), 4, at(4, 12)],
  ] as const
  for (const from of [0, 3, 4]) {
    const held = new HeldMetadata()
    for (const [row, segment, place] of told.slice(from)) held.tell('acme', row, segment, place)
    expect(helpsOf(held, 'm')).toEqual(['new'])
  }
  const held = new HeldMetadata()
  for (const [row, segment, place] of told.slice(0, 5)) held.tell('acme', row, segment, place)
  expect(helpsOf(held)).toEqual(['alone', 'old', 'new'])
  expect([...held.toldBefore(3)].map(({ row }) => row.help)).toEqual(['alone'])
})

test('texts are bounded, for a metric and for a tenant; those not told for longest go', () => {
  const held = new HeldMetadata()
  for (let i = 0; i < 25; i++) held.tell('acme', text(`text ${i}`), 1, at(1, i))
  expect(helpsOf(held)).toEqual(Array.from({ length: 10 }, (_, i) => `text ${15 + i}`))
  for (let i = 0; i < 50_000; i++) held.tell('acme', text('', `metric ${i}`), 1, at(1, 100 + i))
  expect(helpsOf(held, 'm')).toEqual([])
  expect(held.of('acme')).toHaveLength(50_000)
})

test('what is forgotten frees its place, text by text', () => {
  const held = new HeldMetadata()
  held.tell('acme', text('A'), 1, at(1, 1))
  held.tell('acme', text('B'), 1, at(1, 5))
  held.forget('acme', ({ seq }) => seq < 3)
  expect(helpsOf(held)).toEqual(['B'])
  held.forget('acme', () => true)
  expect(held.tenantsHeld()).toEqual([])
})
