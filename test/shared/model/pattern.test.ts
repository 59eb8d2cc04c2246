import fc from 'fast-check'
import { RE2JS } from 're2js'
import { describe, expect, it } from 'vitest'
import { systemClock } from '../../../shared/base/clock.ts'
import { globSet } from '../../../shared/model/glob-sets.ts'
import { ANY, globsOf, SOME } from '../../../shared/model/globs.ts'
import { namedGroups } from '../../../shared/model/group-names.ts'
import { compilePattern, valuePattern } from '../../../shared/model/pattern.ts'
import { parse } from '../../../shared/promql/parse/parser.ts'
import { checkPatterns, compileForSelect, compileMatcher } from '../../../shared/tsdb/matcher-set.ts'

const many = Array.from({ length: 20_000 }, (_, i) => `host-${i}\\.example:9100`)

describe('regular expressions cannot blow up', () => {
  it.each([
    ['counts of counts', '(a{1000}){1000}'],
    ['nested counts', '((((a{10}){10}){10}){10}){10}'],
    ['{1000}{1000}', 'a{1000}{1000}'],
    ['large classes, repeated', '(\\pL{1000}|\\pM{1000}|\\pN{1000})'.repeat(30)],
    ['millions of characters', 'ab.'.repeat(1_000_000)],
    ['20,000 alternatives that are no texts', many.map((text) => `${text}.`).join('|')],
  ])('%s are refused soon', (_, source) => {
    const began = process.threadCpuUsage()
    expect(() => compilePattern(source)).toThrow()
    expect(() => parse(`up{a=~${JSON.stringify(source)}}`, { enabledFeatures: new Set() })).toThrow()
    expect(() => checkPatterns([{ name: 'a', operator: '=~', value: source }])).toThrow(
      expect.objectContaining({ status: 400 }),
    )
    expect(process.threadCpuUsage(began).user / 1_000).toBeLessThan(5_000)
  })

  it('texts between bars are a set, however many, also with escaped punctuation', () => {
    const { matches, onlyValues } = compileMatcher({ name: 'a', operator: '=~', value: many.join('|') })
    expect(onlyValues).toHaveLength(20_000)
    expect([matches('host-7.example:9100'), matches('host-7xexample:9100'), matches('')]).toEqual([true, false, false])
    expect(() => parse(`up{a=~${JSON.stringify(many.join('|'))}}`, { enabledFeatures: new Set() })).not.toThrow()
  })

  it('one whose tests take too long in all is refused while it is tried', () => {
    let nowMs = 0
    const clock = { ...systemClock, monotonic: () => (nowMs += 50) } // each test takes 50 ms
    const [matcher] = compileForSelect([{ name: 'a', operator: '=~', value: '(a?){1000}a{1000}' }], clock)
    const text = 'a'.repeat(600)
    const testAll = () => {
      for (let i = 0; i < 200; i++) matcher!.matches(text.slice(i % 7, 8 + (i % 7)).padEnd(300, 'b'))
    }
    expect(testAll).toThrow(expect.objectContaining({ code: 'err-carillon-pattern-work', status: 422 }))
    expect(nowMs).toBeLessThan(15_000)
  })

  it('their size is bound by a setting, whatever was compiled before', () => {
    const source = 'a.'.repeat(200)
    expect(valuePattern(source).matches('ab'.repeat(200))).toBe(true)
    expect(() => valuePattern(source, 300)).toThrow(expect.objectContaining({ code: 'err-carillon-pattern-size' }))
    expect(() => parse(`up{a=~"${source}"}`, { patternSizeMax: 300 })).toThrow(/more than 300 instructions/)
    expect(() => parse(`up{a=~"${source}"}`, { patternSizeMax: 1000 })).not.toThrow()
  })
})

const hosts = Array.from(
  { length: 10_000 },
  (_, i) => `ip-10-${i % 200}-${Math.floor(i / 200)}-7.eu-central-1.compute.internal:9100`,
)
const escaped = hosts.map((host) => host.replaceAll('.', '\\.')).join('|')

describe('what dashboards send needs no automaton', () => {
  it.each([
    '%s',
    '(%s)',
    '^(%s)$',
    '(?:%s)',
    '^(?:^(%s)$)$',
    '(?P<host>%s)',
    '(%s)(:.*)?',
    '(%s).*',
    '.*(%s)',
    'a?(%s)b?',
  ])('10,000 host names as %s', (form) => {
    const beganMs = performance.now()
    const source = form.replace('%s', escaped)
    const query = `up{instance=~${JSON.stringify(source)}}`
    expect(() => parse(query)).not.toThrow()
    const { matches, isAutomaton } = compileMatcher({ name: 'instance', operator: '=~', value: source })
    expect(isAutomaton).toBe(undefined)
    expect(hosts.every(matches)).toBe(true)
    expect([matches(''), matches('x'), matches(hosts[5]!.replace('.', 'x')), matches(`${hosts[5]}\n-`)]).toEqual([
      false,
      false,
      false,
      form.endsWith('.*'),
    ])
    expect(performance.now() - beganMs).toBeLessThan(2_000)
  })

  it.each([
    ['a|b', ['a', 'b']],
    ['', ['']],
    ['a||b|', ['a', '', 'b', '']],
    ['a\\.b\\|c|d', ['a.b|c', 'd']],
    ['(a|b)', ['a', 'b']],
    ['^(a|b)$', ['a', 'b']],
    ['^a|b$', ['a', 'b']],
    ['(?:a|(?P<n>b|(?<m>c)))d', ['ad', 'bd', 'cd']],
    ['x-(a|b)-(c|d)', ['x-a-c', 'x-a-d', 'x-b-c', 'x-b-d']],
    ['(a|b)(:.*)?', [`a:${ANY}`, 'a', `b:${ANY}`, 'b']],
    ['ab?c', ['abc', 'ac']],
    ['\u{1f600}?', ['\u{1f600}', '']],
    ['a??', ['a', '']],
    ['.+', [SOME]],
    ['.*.*?x.+.*', [`${ANY}x${SOME}`]],
    ['\\.+x', undefined], // many dots
    ['\\d', undefined],
    ['a\\', undefined],
    ['a.b', undefined],
    ['a\\Qb', undefined],
    ['(a', undefined],
    ['a)', undefined],
    ['a**', undefined],
    ['.**', undefined],
    ['^*', undefined],
    ['a^b', undefined],
    ['.+.+', undefined],
    ['(?i)a', undefined],
    ['(?i:a)', undefined],
    ['(?=a)', undefined],
    ['[ab]', undefined],
    ['a{2}', undefined],
    ['(a)*', undefined],
    ['\udc00', undefined],
    [`${'('.repeat(200)}a${')'.repeat(200)}`, undefined],
    [`${'(a|b|c|d)'.repeat(12)}`, undefined],
  ])('%s', (source, globs) => {
    expect(globsOf(source)?.toSorted()).toEqual(globs?.toSorted())
  })

  it('texts and wildcards match what the automaton matches', () => {
    const piece = fc.constantFrom(
      'a',
      'b',
      'ab',
      '.*',
      '.+',
      '(a|b)',
      '(a|)',
      '(b|.*)',
      '(a.+|b)?',
      'b?',
      '^',
      '$',
      '\\.',
      '(?:^a|b$)',
    )
    const pattern = fc.array(fc.array(piece, { maxLength: 5 }), { minLength: 1, maxLength: 3 })
    const value = fc.string({ unit: fc.constantFrom('a', 'b', '.', '\n'), maxLength: 8 })
    let seen = 0
    fc.assert(
      fc.property(pattern, fc.array(value, { minLength: 20, maxLength: 20 }), (alternatives, values) => {
        const source = alternatives.map((pieces) => pieces.join('')).join('|')
        const globs = globsOf(source)
        const set = globs && globSet(globs)
        if (set === undefined) return
        seen++
        const automaton = compilePattern(source, { flags: RE2JS.DOTALL })
        for (const each of values)
          expect([source, each, set.matches(each)]).toEqual([source, each, automaton.matches(each)])
      }),
      { numRuns: 2_000 },
    )
    expect(seen).toBeGreaterThan(500)
  })
})

describe('one name for several groups', () => {
  it.each([
    ['(?P<x>a)|(?P<x>b)', '(?P<x>a)|(b)', { x: [1, 2] }],
    ['(c)(?:d)(?<x>a(?P<y>(b)))(?P<x>z)', '(c)(?:d)(?<x>a(?P<y>(b)))(z)', { x: [2, 5], y: [3] }],
    ['\\((?P<x>[(?P<x>)]])\\Q(?P<x>\\E(?P<x>b)', '\\((?P<x>[(?P<x>)]])\\Q(?P<x>\\E(b)', { x: [1, 2] }],
    ['[]()<]((?P<x>a))', '[]()<]((?P<x>a))', { x: [2] }],
    ['[[:alpha:]()<](?P<x>a)', '[[:alpha:]()<](?P<x>a)', { x: [1] }],
  ])('%s', (source, wanted, numbers) => {
    const groups = namedGroups(source)
    expect(groups.source).toBe(wanted)
    expect(Object.fromEntries(groups.numbersOf)).toEqual(numbers)
    expect(() => compilePattern(source)).not.toThrow()
  })
})
