// A ratchet: functions are short and simple, but those on a list, which only gets shorter.
import { describe, expect, it } from 'vitest'
import { complexFunctions, type Exception, longFunctions } from './function-lists.ts'
import { type Measured, measuredFunctions } from './measured.ts'

const { long, complex } = measuredFunctions(['services', 'shared'])

describe('functions', () => {
  it('none is longer than 60 lines without a reason', () => {
    expect(faultsOf(long, longFunctions)).toEqual([])
  })

  it('none is more complex than 15 without a reason', () => {
    expect(faultsOf(complex, complexFunctions)).toEqual([])
  })

  it('the rule itself refuses what is new, what grew, and what is listed in vain or twice', () => {
    const lists = [
      { why: 'a kernel', functions: { 'a.ts old': 70, 'a.ts gone': 80 } },
      { why: 'another', functions: { 'a.ts same': 90, 'a.ts old': 70 } },
    ]
    expect(faultsOf({ 'a.ts old': 71, 'a.ts same': 90, 'a.ts new': 61 }, lists)).toEqual([
      'a.ts new: 61, and stands on no list',
      'a.ts gone: stands on the list in vain',
      'a.ts old: stands on the list twice',
      'a.ts old: 71, and may be 70 at most',
    ])
  })
})

function faultsOf(measured: Measured, lists: readonly Exception[]): string[] {
  const listed = lists.flatMap(({ functions }) => Object.entries(functions))
  const names = new Set(listed.map(([name]) => name))
  return [
    ...Object.entries(measured)
      .filter(([name]) => !names.has(name))
      .map(([name, figure]) => `${name}: ${figure}, and stands on no list`),
    ...[...names].filter((name) => measured[name] === undefined).map((name) => `${name}: stands on the list in vain`),
    ...[...names]
      .filter((name) => listed.filter(([each]) => each === name).length > 1)
      .map((name) => `${name}: stands on the list twice`),
    ...[...new Map(listed)]
      .filter(([name, most]) => (measured[name] ?? 0) > most)
      .map(([name, most]) => `${name}: ${measured[name]}, and may be ${most} at most`),
  ]
}
