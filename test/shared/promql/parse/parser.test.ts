import { execFile } from 'node:child_process'
import fs from 'node:fs'
import path from 'node:path'
import { promisify } from 'node:util'
import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { RefusedError } from '../../../../shared/base/errors.ts'
import { PromqlError } from '../../../../shared/promql/errors.ts'
import { typeOf } from '../../../../shared/promql/parse/check.ts'
import { parse, parseSelector, selectsEverything } from '../../../../shared/promql/parse/parser.ts'
import { format, matcherText, prettify } from '../../../../shared/promql/parse/printer.ts'
import { toJson } from '../../../../shared/promql/parse/to-json.ts'
import { depthMax, FEATURES, nestingMax, textLengthMax } from '../../../../shared/promql/parse/token-stream.ts'

const testDirectory = path.join(import.meta.dirname, '../../..')
const enabledFeatures = new Set<string>(Object.values(FEATURES))

function golden<T>(name: string): [query: string, answer: T][] {
  const text = fs.readFileSync(path.join(testDirectory, 'golden/promql-parse', name), 'utf8')
  return text
    .trimEnd()
    .split('\n')
    .map((line) => JSON.parse(line))
}

function errorOf(run: () => unknown): PromqlError {
  try {
    run()
  } catch (error) {
    if (error instanceof PromqlError) return error
    throw error
  }
  throw new Error('nothing was refused')
}

describe('what Prometheus takes', () => {
  test.each(golden<string>('formatted.jsonl'))('%j is printed as Prometheus prints it', (query, text) => {
    expect(format(parse(query, { enabledFeatures }))).toBe(text)
  })

  test.each(golden<string>('formatted.jsonl'))('the printed form of %j means the same', (_, text) => {
    expect(format(parse(text, { enabledFeatures }))).toBe(text)
  })

  test.each(golden<string[]>('prettified.jsonl'))('%j is broken into lines as Prometheus does', (query, lines) => {
    expect(prettify(parse(query, { enabledFeatures })).split('\n')).toEqual(lines)
  })

  test.each(golden<unknown>('trees.jsonl'))('%j has the tree that Prometheus answers', (query, tree) => {
    const json = toJson(parse(query, { enabledFeatures }))
    expect(JSON.stringify(json)).toBe(JSON.stringify(tree)) // the order of the keys too
  })
})

describe('PARSER-1: what Prometheus refuses, at the same place and in the same words', () => {
  test.each(golden<string>('refused.jsonl'))('%j', (query, message) => {
    expect(errorOf(() => parse(query, { enabledFeatures })).message).toBe(message)
  })

  test.each(golden<string>('refused-without-features.jsonl'))('%j without experimental features', (query, message) => {
    expect(errorOf(() => parse(query)).message).toBe(message)
  })
})

test.each(golden<string | string[]>('selectors.jsonl'))('the series selector %j', (text, answer) => {
  if (typeof answer === 'string') expect(errorOf(() => parseSelector(text)).message).toBe(answer)
  else expect(parseSelector(text).map(matcherText)).toEqual(answer.filter((matcher) => matcher !== ''))
})

test.each([
  ['{}', true],
  ['{a=""}', true],
  ['{a=~".*"}', true],
  ['{a!~".+"}', true],
  ['{a!="b"}', true],
  ['{a=~".+"}', false],
  ['{a!=""}', false],
  ['up', false],
])('whether %s selects every series: %s', (text, answer) => {
  expect(selectsEverything(parseSelector(text))).toBe(answer)
})

test.each([
  ['1', 'scalar'],
  ['"x"', 'string'],
  ['up', 'vector'],
  ['(up[5m])', 'matrix'],
  ['up[5m:]', 'matrix'],
  ['1 + up', 'vector'],
  ['-(1 + 2)', 'scalar'],
  ['time()', 'scalar'],
  ['sum(up)', 'vector'],
])('%s is a %s', (query, type) => {
  expect(typeOf(parse(query))).toBe(type)
})

test('the error is the caller’s, has a code and says where', () => {
  const error = errorOf(() => parse('sum(up) é'))
  expect(error).toBeInstanceOf(RefusedError)
  expect(error).toMatchObject({ code: 'err-carillon-promql-parse', status: 400, errorType: 'bad_data' })
  expect(error.position.start).toBe(8)
})

test('positions count bytes', () => {
  expect(parse('{a="é"} + up')).toMatchObject({
    left: { position: { start: 0, end: 8 } },
    position: { start: 0, end: 13 },
  })
})

test('bytes that are not UTF-8 survive the way from text to text', () => {
  expect(format(parse(String.raw`"a\xffb\xe2\x82\xac"`))).toBe(String.raw`"a\xffb€"`)
})

describe('PARSER-2: no query overflows the stack', () => {
  const nested: Record<string, (size: number) => string> = {
    parentheses: (size) => `${'('.repeat(size)}1${')'.repeat(size)}`,
    signs: (size) => `${'-'.repeat(size)}up`,
    powers: (size) => `${'1 ^ '.repeat(size)}1`,
    calls: (size) => `${'abs('.repeat(size)}up${')'.repeat(size)}`,
    aggregations: (size) => `${'sum('.repeat(size)}up${')'.repeat(size)}`,
    'parentheses in a range': (size) => `up[${'('.repeat(size)}1m${')'.repeat(size)}]`,
    'open parentheses': (size) => '('.repeat(size),
  }
  const chained: Record<string, (size: number) => string> = {
    'a chain of operators': (size) => `up${' or up'.repeat(size)}`,
    'a chain of durations': (size) => `up[1m${' + 1m'.repeat(size)}]`,
  }
  const shapes = [
    ...Object.entries(nested).map(([name, shape]) => [name, shape, nestingMax] as const),
    ...Object.entries(chained).map(([name, shape]) => [name, shape, depthMax] as const),
  ]
  test('a text has a bound of characters, and a bound of tokens', () => {
    const long = `up{a="${'b'.repeat(textLengthMax - 9)}"}`
    expect(parse(long).kind).toBe('selector')
    expect(errorOf(() => parse(` ${long} `)).message).toContain(`longer than ${textLengthMax} characters`)
    expect(errorOf(() => parse(`sum by (${'a,'.repeat(60_000)}b) (up)`)).message).toContain('tokens')
  })

  test.each(shapes)('%s, 20,000 deep, are refused in words', (_, shape, levels) => {
    expect(errorOf(() => parse(shape(20_000))).message).toContain(`nested more than ${levels} levels deep`)
  })

  test.each(shapes.filter(([name]) => name !== 'open parentheses'))(
    '%s, nearly as deep as allowed, are answered',
    (_, shape, levels) => {
      const expr = parse(shape(levels - 10))
      expect(format(expr)).not.toBe('')
      expect(toJson(expr)).toBeTypeOf('object')
    },
  )

  test.each(shapes.filter(([name]) => name !== 'open parentheses'))(
    'TOKEN-2: %s are, of a process that has just begun and has half a stack left',
    async (_, shape, levels) => {
      const parser = new URL('../../../../shared/promql/parse/parser.ts', import.meta.url)
      const script = `import { parse } from '${parser}'; parse(${JSON.stringify(shape(levels - 10))})`
      await promisify(execFile)(process.execPath, ['--stack-size=492', '--input-type=module', '-e', script])
    },
  )
})

test('whatever is not PromQL is refused with a PromqlError', () => {
  const word = fc.constantFrom(...'foo sum by ( ) { } [ ] , 5m 1 "x" = =~ + - ^ offset @ # é \\ : bool on'.split(' '))
  const text = fc.oneof(
    fc.string({ unit: 'binary' }),
    fc.array(word).map((words) => words.join(' ')),
  )
  fc.assert(
    fc.property(text, (query) => {
      try {
        format(parse(query, { enabledFeatures }))
      } catch (error) {
        expect(error).toBeInstanceOf(PromqlError)
      }
    }),
    { numRuns: 2000 },
  )
})

describe('every query of the specification scripts parses, unless the script says that it fails', () => {
  const directory = path.join(testDirectory, 'spec/promql')
  const scripts = fs.readdirSync(directory).filter((name) => name.endsWith('.test'))
  test.each(scripts)('%s', (name) => {
    const lines = fs.readFileSync(path.join(directory, name), 'utf8').split('\n')
    for (const [i, line] of lines.entries()) {
      const found = /^\s*eval(_\w+)?\s+(?:instant at \S+|range from \S+ to \S+ step \S+)\s+(.*)$/.exec(line)
      if (found === null) continue
      const [, expectation, query = ''] = found
      const block = lines.slice(i + 1, i + 4).join('\n')
      if (expectation === '_fail' || block.trimStart().startsWith('expect fail')) continue
      expect(() => parse(query, { enabledFeatures }), `${name}:${i + 1} ${query}`).not.toThrow()
    }
  })
})
