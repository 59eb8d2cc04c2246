// The mutants: rules of the product that are taken out one at a time, and the tests that must notice. They stand in the `*.mutants` files
// of this folder (README.md shows one), as text, so that source stands there as it is, without a quote or a backslash more.
import fs from 'node:fs'
import path from 'node:path'
import { filesIn, root } from '../tidy/sources.ts'

export interface Mutant {
  readonly id: string
  /** The table that it stands in, and the line: `test/mutants/log.mutants:12`. */
  readonly at: string
  /** The invariant, and what is taken out of it. */
  readonly rule: string
  readonly file: string
  /** Consecutive lines of the file, or a piece of one; how far they are indented does not count. */
  readonly from: string
  /** What stands there instead; '' where it is only taken out. */
  readonly to: string
  readonly tests: readonly NamedTest[]
}

export interface NamedTest {
  readonly file: string
  /** Part of the test's name; '': all tests of the file. */
  readonly name: string
}

/** A table that cannot be read, or a mutant that does not fit the source any more: says which and why. */
export class StaleError extends Error {}

const ID = /^[a-zA-Z0-9][a-zA-Z0-9-]*$/
const TEST = /^(test\/\S+\.test\.ts)(?: > (.+))?$/

export function readMutants(): Mutant[] {
  const tables = filesIn('test/mutants').filter((file) => file.endsWith('.mutants'))
  return tables.flatMap((file) => parseTable(file, fs.readFileSync(path.join(root, file), 'utf8')))
}

export function parseTable(file: string, text: string): Mutant[] {
  const mutants: Mutant[] = []
  let open: { id: string; at: string; lines: string[] } | undefined
  const close = () => {
    if (open !== undefined) mutants.push(parseMutant(open))
    open = undefined
  }
  for (const [i, line] of text.split('\n').entries()) {
    if (line.startsWith('#') || line.trim() === '') continue
    if (/^\s/.test(line)) {
      if (open === undefined) throw new StaleError(`${file}:${i + 1}: a line before the first mutant`)
      open.lines.push(line.trim())
      continue
    }
    close()
    if (!ID.test(line.trim())) throw new StaleError(`${file}:${i + 1}: "${line}" is no id: letters, digits, hyphens`)
    open = { id: line.trim(), at: `${file}:${i + 1}`, lines: [] }
  }
  close()
  return mutants
}

function parseMutant({ id, at, lines }: { id: string; at: string; lines: readonly string[] }): Mutant {
  const [rule, file, ...rest] = lines
  const marked = (mark: string) => rest.filter((line) => line === mark || line.startsWith(`${mark} `))
  const from = marked('-')
  const to = marked('+')
  const unmarked = rest.filter((line) => !from.includes(line) && !to.includes(line))
  const tests = unmarked.map((line): NamedTest => {
    const [, testFile, name = ''] = TEST.exec(line) ?? []
    if (testFile === undefined)
      throw new StaleError(`${at}: ${id}: "${line}" names no test: test/….test.ts > part of a name`)
    return { file: testFile, name }
  })
  if (rule === undefined || file === undefined || from.length === 0 || tests.length === 0)
    throw new StaleError(
      `${at}: ${id}: a mutant has a rule, a file, lines with "-", lines with "+" where wanted, and tests`,
    )
  const textOf = (marks: readonly string[]) => marks.map((line) => line.slice(1).trim()).join('\n')
  return { id, at, rule, file, from: textOf(from), to: textOf(to), tests }
}

/** The source of the mutant's file without the rule. Throws StaleError when what is taken out does not stand there exactly once. */
export function mutated({ id, at, file, from, to }: Mutant, source: string): string {
  const lines = from.split('\n').map((line) => line.replace(/[\\^$.*+?()[\]{}|]/g, '\\$&'))
  const found = [...source.matchAll(new RegExp(lines.join('[ \\t]*\\n[ \\t]*'), 'g'))]
  if (found.length !== 1)
    throw new StaleError(`${at}: ${id}: ${found.length} places of ${file} hold what is taken out, instead of one`)
  const [{ index, 0: piece }] = found as [RegExpExecArray]
  const left = source.slice(0, index) + to + source.slice(index + piece.length)
  if (left === source) throw new StaleError(`${at}: ${id}: nothing is changed`)
  return left
}

/** Why a mutant does not fit the project any more; undefined when it does. `read` gives a file's text, undefined where there is none. */
export function staleness(mutant: Mutant, read: (file: string) => string | undefined): string | undefined {
  const source = read(mutant.file)
  if (source === undefined) return `${mutant.at}: ${mutant.id}: there is no ${mutant.file}`
  for (const { file, name } of mutant.tests) {
    const text = read(file)
    if (text === undefined) return `${mutant.at}: ${mutant.id}: there is no ${file}`
    const places = [text, ...filesIn('test/suites').map((suite) => read(suite) ?? '')]
    if (!places.some((each) => each.includes(name))) return `${mutant.at}: ${mutant.id}: ${file} has no test "${name}"`
  }
  try {
    mutated(mutant, source)
    return undefined
  } catch (error) {
    if (error instanceof StaleError) return error.message
    throw error
  }
}

/** Of the project as it stands on the disk. */
export function readFile(file: string): string | undefined {
  const absolute = path.join(root, file)
  return fs.existsSync(absolute) ? fs.readFileSync(absolute, 'utf8') : undefined
}
