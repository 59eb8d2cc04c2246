// What a series must be like to be let in: one case a line, texts and ids as documented.
import { expect, test } from 'vitest'
import { distributorSettings } from '../../../services/distributor/config.ts'
import { defaultsOf } from '../../../shared/config/settings.ts'
import { canonical, checkLabels } from '../../../shared/model/label-rules.ts'

const limits = defaultsOf(distributorSettings)
const many = (count: number) => Array.from({ length: count }, (_, i) => [`l${String(i).padStart(5, '0')}`, 'v']).flat()

test.each([
  ['good', ['__name__', 'up', 'job', 'a'], undefined],
  ['names of any script', ['__name__', 'größe', 'läbel.x', 'v'], undefined],
  ['an empty value means no label', ['__name__', 'up', 'job', ''], undefined],
  ['no labels', [], 'missing-metric-name: sample missing metric name'],
  ['no name', ['job', 'a'], 'missing-metric-name: sample missing metric name'],
  ['empty name', ['__name__', '', 'job', 'a'], 'missing-metric-name: sample missing metric name'],
  ['a value that reads like a name', ['job', '__name__'], 'missing-metric-name: sample missing metric name'],
  ['30 labels', ['__name__', 'up', ...many(29)], undefined],
  [
    '31 labels',
    ['__name__', 'up', ...many(30)],
    'max-label-names-per-series: series has too many labels (actual: 31, limit: 30)',
  ],
  [
    '10,000 labels',
    ['__name__', 'up', ...many(10_000)],
    'max-label-names-per-series: series has too many labels (actual: 10001',
  ],
  ['empty label name', ['', 'v', '__name__', 'up'], 'label-invalid: sample invalid label: "" metric "up"'],
  ['label name of 1024 bytes', ['__name__', 'up', 'n'.repeat(1024), 'v'], undefined],
  [
    'label name of 1025 bytes',
    ['__name__', 'up', 'n'.repeat(1025), 'v'],
    'label-name-too-long: label name too long for metric (actual: 1025, limit: 1024)',
  ],
  [
    'label value of 2049 bytes',
    ['__name__', 'up', 'n', 'v'.repeat(2049)],
    'label-value-too-long: label value too long for metric (actual: 2049, limit: 2048)',
  ],
  [
    'bytes count, not characters',
    ['__name__', 'up', 'n', 'ü'.repeat(1025)],
    'label-value-too-long: label value too long for metric (actual: 2050',
  ],
  [
    'twice the same name',
    ['__name__', 'up', 'a', '1', 'a', '2'],
    'duplicate-label-name: duplicate label name: "a" metric: "up"',
  ],
  ['unsorted', ['__name__', 'up', 'b', '1', 'a', '2'], 'labels-not-sorted: labels not sorted: "a" metric: "up"'],
  ['sorted by bytes, not UTF-16', ['__name__', 'up', '\uffee', '1', '\u{1f600}', '2'], undefined],
  ['unsorted by bytes', ['__name__', 'up', '\u{1f600}', '1', '\uffee', '2'], 'labels-not-sorted'],
])('%s', (_, labels, wanted) => {
  const found = checkLabels(labels, limits)
  if (wanted === undefined) return expect(found).toBeUndefined()
  const [id, text = ''] =
    wanted.split(': ').length > 1 ? [wanted.split(': ')[0]!, wanted.slice(wanted.indexOf(': ') + 2)] : [wanted]
  expect(found).toMatchObject({ status: 400, code: `err-carillon-${id}` })
  expect(found!.text).toContain(text)
  expect(found!.text).toContain(`(err-carillon-${id})`)
  expect(found!.text.length, 'echoes at most 200 characters of what came').toBeLessThan(600)
})

test('labels with an empty value are not stored', () => {
  expect(canonical(['__name__', 'up', 'a', '', 'b', '1'])).toEqual(['__name__', 'up', 'b', '1'])
})
