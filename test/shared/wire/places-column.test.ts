import fc from 'fast-check'
import { expect, test } from 'vitest'
import { PlacesReader, PlacesWriter } from '../../../shared/wire/places-column.ts'

const number = fc.integer({ min: 0, max: 2 ** 50 })
const place = fc.record({
  incarnation: fc.constantFrom('', 'one', '2026-11-30T07:50:26.123Z', 'é'),
  segment: number,
  seq: number,
})

test('places come back as they were told, and few bytes tell those that follow each other', () => {
  fc.assert(
    fc.property(fc.array(place, { minLength: 1, maxLength: 30 }), (places) => {
      const writer = new PlacesWriter()
      for (const each of places) writer.add(each)
      const reader = new PlacesReader(writer.finish())
      expect(places.map(() => reader.next())).toEqual(places)
      expect(() => reader.next()).toThrow('places')
    }),
  )
  const writer = new PlacesWriter()
  for (let i = 0; i < 1000; i++)
    writer.add({ incarnation: '2026-11-30T07:50:26.123Z', segment: 7, seq: 90_000 + 3 * i })
  expect(writer.length).toBeLessThan(3_100)
})

test('without a column nothing is stated again', () => {
  for (const column of [undefined, new Uint8Array(0)]) expect(new PlacesReader(column).next()).toBeUndefined()
})
