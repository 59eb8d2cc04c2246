// The numbered rules as a test: FLUSH-2 is said in one place, and somebody goes by it.
import { expect, test } from 'vitest'
import { filesIn, readSource, type Source } from './sources.ts'

/** What looks like a rule and is none. */
const OTHERS = new Set(['UTF', 'SHA', 'CRC', 'ISO', 'RFC', 'SSH', 'XOR'])

const ID = /\b([A-Z]{2,})-(\d+)\b/g
/** `//   FLUSH-2  text` in the header of a file: two spaces at least. */
const IN_A_HEADER = /^\/\/ {3}([A-Z]{2,}-\d+) {2,}\S/
/** The rules of the log: a list. */
const LOG_PROTOCOL = 'docs/internals/log-protocol.md'
const IN_A_LIST = /^- \*\*(LOG-\d+)\*\*/

const papers = ['README.md', 'ARCHITECTURE.md', 'DIFFERENCES.md', 'CHANGELOG.md']
const files = [...papers, ...['docs', 'services', 'shared', 'test'].flatMap(filesIn)]
const sources = files
  .filter((file) => /\.(ts|mjs|md|mutants)$/.test(file) && file !== 'test/tidy/invariants.test.ts')
  .map(readSource)
const definitions = sources.flatMap(definedIn)
const defined = new Set(definitions.map(({ id }) => id))

function definedIn({ file, lines }: Source): { id: string; at: string }[] {
  return lines.flatMap((line, i) => idsDefinedBy(file, line).map((id) => ({ id, at: `${file}:${i + 1}` })))
}

function idsDefinedBy(file: string, line: string): string[] {
  const form = file === LOG_PROTOCOL ? IN_A_LIST : /\.(ts|mjs)$/.test(file) ? IN_A_HEADER : undefined
  const id = form?.exec(line)?.[1]
  return id === undefined ? [] : [id]
}

/** Every rule that a line names, `PIPE-1 to PIPE-3` as three. */
function idsIn(line: string): string[] {
  const ranges = [...line.matchAll(/\b([A-Z]{2,})-(\d+)(?: to |–)\1-(\d+)\b/g)].flatMap(([, word, first, last]) =>
    Array.from({ length: Number(last) - Number(first) + 1 }, (_, i) => `${word}-${Number(first) + i}`),
  )
  const single = [...line.matchAll(ID)].filter(([, word = '']) => !OTHERS.has(word)).map(([id]) => id)
  return [...new Set([...single, ...ranges])]
}

test('every rule is said in one place', () => {
  const places = Map.groupBy(definitions, ({ id }) => id)
  const twice = [...places].filter(([, at]) => at.length > 1).map(([id, at]) => `${id}: ${at.map((each) => each.at)}`)
  expect(twice).toEqual([])
})

test('every rule that is named somewhere is said somewhere', () => {
  const unknown = sources.flatMap(({ file, lines }) =>
    lines.flatMap((line, i) =>
      idsIn(line)
        .filter((id) => !defined.has(id))
        .map((id) => `${file}:${i + 1}: ${id}`),
    ),
  )
  expect(unknown).toEqual([])
})

test('code, a test or a mutant goes by every rule', () => {
  const named = sources
    .filter(({ file }) => !file.endsWith('.md'))
    .flatMap(({ file, lines }) =>
      lines.flatMap((line) => idsIn(line).filter((id) => !idsDefinedBy(file, line).includes(id))),
    )
  const heeded = new Set(named)
  expect([...defined].filter((id) => !heeded.has(id))).toEqual([])
})

test('a family of rules has one letter no more: a lone letter says nothing', () => {
  const old = sources
    .filter(({ file }) => /\.(ts|mjs)$/.test(file))
    .flatMap(({ file, lines }) =>
      lines.flatMap((line, i) => (/^\/\/ {3}[A-Z]\d+ {2,}\S/.test(line) ? [`${file}:${i + 1}`] : [])),
    )
  expect(old).toEqual([])
})

test('what is looked for is found', () => {
  expect(idsDefinedBy('a.ts', '//   PIPE-2  A sender has at most so much')).toEqual(['PIPE-2'])
  expect(idsDefinedBy('a.ts', '  // PIPE-2')).toEqual([])
  expect(idsDefinedBy(LOG_PROTOCOL, '- **LOG-20** A strong read, DELETE-16')).toEqual(['LOG-20'])
  expect(idsIn('PIPE-1 to PIPE-3, UTF-8 and RING-2')).toEqual(['PIPE-1', 'PIPE-3', 'RING-2', 'PIPE-2'])
})
