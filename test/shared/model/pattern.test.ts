import { describe, expect, it } from 'vitest'
import { systemClock } from '../../../shared/base/clock.ts'
import { compilePattern, literalAlternatives } from '../../../shared/model/pattern.ts'
import { parse } from '../../../shared/promql/parse/parser.ts'
import { compileForSelect, compileMatcher } from '../../../shared/tsdb/matcher-set.ts'

const many = Array.from({ length: 20_000 }, (_, i) => `host-${i}\\.example:9100`)

describe('regular expressions cannot blow up', () => {
  it.each([
    ['counts of counts', '(a{1000}){1000}'],
    ['nested counts', '((((a{10}){10}){10}){10}){10}'],
    ['{1000}{1000}', 'a{1000}{1000}'],
    ['large classes, repeated', '(\\pL{1000}|\\pM{1000}|\\pN{1000})'.repeat(30)],
    ['more characters than a pattern may have', `${'ab.'.repeat(30_000)}`],
    ['20,000 alternatives that are no texts', many.map((text) => `${text}.`).join('|')],
  ])('%s are refused soon', (_, source) => {
    const beganMs = performance.now()
    expect(() => compilePattern(source)).toThrow()
    expect(() => parse(`up{a=~${JSON.stringify(source)}}`, { enabledFeatures: new Set() })).toThrow()
    expect(() => compileMatcher({ name: 'a', operator: '=~', value: source })).toThrow(
      expect.objectContaining({ status: 400 }),
    )
    expect(performance.now() - beganMs).toBeLessThan(2_000)
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

  it.each([
    ['a|b', ['a', 'b']],
    ['', ['']],
    ['a||b|', ['a', '', 'b', '']],
    ['a\\.b\\|c|d', ['a.b|c', 'd']],
    ['\\d', undefined],
    ['a\\', undefined],
    ['a.b', undefined],
    ['(a|b)', undefined],
    ['a\\Qb', undefined],
  ])('%s', (source, texts) => {
    expect(literalAlternatives(source)).toEqual(texts)
    if (texts === undefined) return
    const automaton = compilePattern(source)
    for (const text of [...texts, 'x', 'ab']) expect(automaton.matches(text)).toBe(texts.includes(text))
  })
})
