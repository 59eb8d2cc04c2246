import { expect, it } from 'vitest'
import { DATE_FUNCTIONS } from '../../../shared/promql/functions/elementwise.ts'

const NAMES = ['year', 'month', 'day_of_month', 'day_of_week', 'day_of_year', 'days_in_month', 'hour', 'minute']

// As Prometheus answered `year(vector(…))` and the others.
it.each<[number, number[]]>([
  [0, [1970, 1, 1, 4, 1, 31, 0, 0]],
  [1_709_164_800, [2024, 2, 29, 4, 60, 29, 0, 0]],
  [-1, [1969, 12, 31, 3, 365, 31, 23, 59]],
  [1e15, [31_690_708, 7, 5, 0, 187, 31, 1, 46]],
  [-1e15, [-31_686_769, 6, 29, 0, 180, 30, 22, 13]],
  [9e18, [285_198_648_531, 4, 21, 6, 111, 30, 16, 0]],
  [1e19, [292_277_026_596, 12, 4, 0, 339, 31, 15, 30]],
  [-Infinity, [292_277_026_596, 12, 4, 0, 339, 31, 15, 30]],
  [Number.NaN, [292_277_026_596, 12, 4, 0, 339, 31, 15, 30]],
])('the date of %d s', (seconds, wanted) => {
  expect(NAMES.map((name) => DATE_FUNCTIONS[name]!(seconds))).toEqual(wanted)
})
