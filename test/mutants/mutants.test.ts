// The table of mutants fits the source: cheap, so that a change that moves a rule says so at once. Whether the tests still notice each mutant
// is what `npm run mutants` tells.
import { stripTypeScriptTypes } from 'node:module'
import { describe, expect, it } from 'vitest'
import { mutated, parseTable, readFile, readMutants, StaleError, staleness } from './table.ts'

const table = `
# a note
first-rule
  X1: nothing is counted twice
  services/a.ts
  - if (seen.has(id)) return
  - seen.add(id)
  + seen.add(id)
  test/a.test.ts > X1
  test/b.test.ts

second-rule
  X2: what is over is forgotten
  services/a.ts
  - this.seen.delete(id)
  test/a.test.ts
`
const source = `function take(id: string): void {
  if (seen.has(id)) return
  seen.add(id)
}
`

describe('the table of mutants', () => {
  it('no mutant is stale: what it takes out stands in its file exactly once, and its tests exist', () => {
    expect(readMutants().flatMap((mutant) => staleness(mutant, readFile) ?? [])).toEqual([])
  })

  it('what is left of each file is TypeScript', () => {
    const broken = readMutants().filter((mutant) => {
      try {
        stripTypeScriptTypes(mutated(mutant, readFile(mutant.file)!), { mode: 'strip' })
        return false
      } catch {
        return true
      }
    })
    expect(broken.map(({ at, id }) => `${at}: ${id}`)).toEqual([])
  })

  it('no id stands twice', () => {
    const ids = readMutants().map(({ id }) => id)
    expect(ids.filter((id, i) => ids.indexOf(id) !== i)).toEqual([])
  })

  it('is read as it is written', () => {
    expect(parseTable('x.mutants', table)).toEqual([
      {
        ...{ id: 'first-rule', at: 'x.mutants:3', rule: 'X1: nothing is counted twice', file: 'services/a.ts' },
        ...{ from: 'if (seen.has(id)) return\nseen.add(id)', to: 'seen.add(id)' },
        tests: [
          { file: 'test/a.test.ts', name: 'X1' },
          { file: 'test/b.test.ts', name: '' },
        ],
      },
      {
        ...{ id: 'second-rule', at: 'x.mutants:12', rule: 'X2: what is over is forgotten', file: 'services/a.ts' },
        ...{ from: 'this.seen.delete(id)', to: '', tests: [{ file: 'test/a.test.ts', name: '' }] },
      },
    ])
  })

  it('takes out one place, however it is indented', () => {
    const [first, second] = parseTable('x.mutants', table)
    expect(mutated(first!, source)).toBe('function take(id: string): void {\n  seen.add(id)\n}\n')
    expect(() => mutated(second!, source)).toThrow(/second-rule: 0 places/)
    expect(() => mutated(first!, source + source)).toThrow(/first-rule: 2 places/)
  })

  it('a table that cannot be read names the place', () => {
    expect(() => parseTable('x.mutants', '  - stray')).toThrow(StaleError)
    expect(() => parseTable('x.mutants', 'an id\n')).toThrow(/x.mutants:1/)
    expect(() => parseTable('x.mutants', 'a\n  rule\n  file.ts\n  - x\n  no test\n')).toThrow(/names no test/)
  })
})
