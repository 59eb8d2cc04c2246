// The table of error codes as a test: nothing in it is dead, nothing outside is unknown to it.
import { expect, test } from 'vitest'
import { errorCodes, publicCode } from '../../shared/base/error-codes.ts'
import { STATUS_OF_ERROR_TYPE } from '../../shared/contracts/query.ts'
import { filesIn, readSource, sourcesIn } from './sources.ts'

const ids = new Set<string>(errorCodes().map(({ code }) => publicCode(code)))

test('every code of the table is used', () => {
  const code = sourcesIn(['shared', 'services'], /\.(ts|mjs)$/).filter(({ file }) => !file.includes('/error-codes'))
  const quoted = new Set(code.flatMap(({ text }) => text.match(/(?<=')[a-z0-9-]+(?=')/g) ?? []))
  const types = Object.keys(STATUS_OF_ERROR_TYPE).map((type) => type.replaceAll('_', '-'))
  const used = new Set([...quoted, ...types])
  const codes = errorCodes().map(({ code }) => code)
  expect(codes.filter((each) => !used.has(each) && !used.has(each.replace('err-carillon-', '')))).toEqual([])
})

test('every id in a text of the project stands in the table', () => {
  const roots = ['README.md', 'ARCHITECTURE.md', 'CHANGELOG.md', 'DIFFERENCES.md', 'compose.yaml', 'nats.conf']
  const folders = ['docs', 'services', 'shared', 'test'].flatMap(filesIn)
  const texts = [...roots, ...folders].filter((file) => /\.(ts|mjs|md|yaml|json|mutants|conf)$/.test(file))
  const unknown = texts.map(readSource).flatMap(({ file, text }) =>
    [...text.matchAll(/(?<!-)err-carillon-[a-z0-9]+(?:-[a-z0-9]+)*(?![a-z0-9-]|[$…[(])/g)]
      .map(([id]) => id)
      .filter((id) => !ids.has(id))
      .map((id) => `${file}: ${id}`),
  )
  expect(unknown).toEqual([])
})

test('what HTTP answers where a text of Prometheus has no id of its own stands in the table', () => {
  const made = Object.keys(STATUS_OF_ERROR_TYPE).map((type) => `err-carillon-${type.replaceAll('_', '-')}`)
  expect(made.filter((id) => !ids.has(id))).toEqual([])
})

test('meaning and remedy are sentences, and no sentence is longer than a person reads at once', () => {
  const odd = errorCodes().flatMap(({ code, row }) =>
    [row.meaning, row.remedy]
      .filter((text) => !/^[A-Z].*\.$/.test(text) || text.length > 160)
      .map((text) => `${code}: ${text}`),
  )
  expect(odd).toEqual([])
})
