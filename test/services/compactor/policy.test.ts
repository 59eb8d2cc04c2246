// What a tenant keeps: settings, the file's default, the tenant's own words, in this order.
import fs from 'node:fs'
import os from 'node:os'
import path from 'node:path'
import { expect, it } from 'vitest'
import {
  longestKeepMs,
  Policies,
  policiesFrom,
  readPolicyFile,
} from '../../../services/compactor/plan/retention-policy.ts'

const DAY = 86_400_000
const settings = { keepMs: 0, keepBytesMax: 0, downsample: false }

it('keeps for ever unless told otherwise', () => {
  expect(policiesFrom(settings, '').of('any')).toMatchObject({
    keepMs: Infinity,
    bytesMax: Infinity,
    downsample: false,
    rules: [],
  })
})

it('a tenant has what it says, then what the file says for all, then the settings', () => {
  const text = `
default: { keep: 30d, rules: [{ selector: 'up', keep: 1d }] }
tenants: { a: { keep: 0, bytes_max: 1GiB }, b: { rules: [] } }`
  const policyOf = policiesFrom({ ...settings, downsample: true }, text).of
  expect(policyOf('a')).toMatchObject({
    keepMs: Infinity,
    bytesMax: 2 ** 30,
    downsample: true,
    rules: [{ keepMs: DAY }],
  })
  expect(policyOf('b')).toMatchObject({ keepMs: 30 * DAY, rules: [] })
  expect(policyOf('other')).toMatchObject({ keepMs: 30 * DAY, bytesMax: Infinity })
  expect(longestKeepMs(policyOf('other'))).toBe(30 * DAY)
})

it('a tenant may be called as what every object has', () => {
  const { of, tenants } = policiesFrom(settings, 'tenants: { __proto__: { keep: 1d }, constructor: { keep: 2d } }')
  expect([of('__proto__').keepMs, of('constructor').keepMs, of('toString').keepMs]).toEqual([DAY, 2 * DAY, Infinity])
  expect(tenants).toEqual(['__proto__', 'constructor'])
  expect(() => policiesFrom(settings, 'tenants: { __proto__: { kep: 1d } }')).toThrow('__proto__')
  expect(() => policiesFrom(settings, 'tenants: [a]')).toThrow('tenants')
})

it('a file that changes holds when two looks have found it the same; a faulty, empty or missing one changes nothing', () => {
  const file = path.join(fs.mkdtempSync(path.join(os.tmpdir(), 'carillon-policy-')), 'policy.yaml')
  const write = (text: string) => fs.writeFileSync(file, text)
  write('default: { keep: 400d }')
  const policies = new Policies(settings, file)
  const keptDays = () => policies.of('a').keepMs / DAY
  expect([policies.look(), keptDays()]).toEqual([false, 400])
  write('default: { keep: 30d }')
  expect([policies.look(), keptDays()], 'perhaps half written').toEqual([false, 400])
  write('default: { keep: 300d }')
  expect([policies.look(), keptDays()]).toEqual([false, 400])
  expect([policies.look(), keptDays()]).toEqual([true, 300])
  for (const text of ['', 'default: { keep: 1 }', 'default: { keeep: 1d }']) {
    write(text)
    expect(policies.look()).toBe(false)
    expect(() => policies.look(), text).toThrow(expect.objectContaining({ code: 'err-carillon-policy-file' }))
    expect(keptDays()).toBe(300)
  }
  fs.rmSync(file)
  expect(() => policies.look()).toThrow(/--policy-file .*policy\.yaml/)
  write('default: { keep: 300d }')
  expect([policies.look(), policies.look(), keptDays()]).toEqual([false, false, 300])
})

it('the id of a rule changes with it and with those before it, which take series from it', () => {
  const ids = (rules: string) => policiesFrom(settings, `default: { rules: [${rules}] }`).of('a').ruleIds
  const [up, down] = [`{ selector: 'up', keep: 1d }`, `{ selector: 'down', keep: 1d }`]
  expect(ids(`${up}, ${down}`)[0]).toBe(ids(up)[0])
  expect(ids(`${up}, ${down}`)[1]).not.toBe(ids(down)[0])
  expect(ids(`{ selector: 'up', keep: 2d }`)).not.toEqual(ids(up))
})

it('a file that is not there is refused by name', () => {
  expect(readPolicyFile('')).toBe('')
  expect(() => readPolicyFile('/nowhere/policy.yaml')).toThrow(/--policy-file .*policy\.yaml/)
})

it.each([
  ['not a list', 'tenants: [1]'],
  ['an unknown word', 'default: { kept: 1d }'],
  ['no duration', 'default: { keep: soon }'],
  ['no selector', `default: { rules: [{ selector: '{', keep: 1d }] }`],
  ['no YAML', 'default: {'],
])('%s is refused with the reason', (_, text) => {
  expect(() => policiesFrom(settings, text)).toThrow(expect.objectContaining({ code: 'err-carillon-policy-file' }))
})
