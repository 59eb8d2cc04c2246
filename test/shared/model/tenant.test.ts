import fc from 'fast-check'
import { expect, test } from 'vitest'
import { RefusedError } from '../../../shared/base/errors.ts'
import { decodeTenant, encodeTenant, parseTenant, tenantIn } from '../../../shared/model/tenant.ts'

test.each(['anonymous', 'team.a', 'a*', "!()'", 'A-Z_0', '...', 'x'.repeat(150)])('%s is a tenant', (id) => {
  expect(parseTenant(id)).toBe(id)
  const token = encodeTenant(id)
  expect(token).toMatch(/^[A-Za-z0-9_-]{1,512}$/)
  expect(decodeTenant(token)).toBe(id)
})

test.each([
  ['', 'no org id'],
  ['.', "tenant ID is '.' or '..'"],
  ['..', "tenant ID is '.' or '..'"],
  ['__markers__', "tenant ID '__markers__' is not allowed"],
  ['user-index.json.gz', "tenant ID 'user-index.json.gz' is not allowed"],
  ['x'.repeat(151), 'tenant ID is too long: max 150 characters'],
  ['a b', "tenant ID 'a b' contains unsupported character ' '"],
  ['a/b', "tenant ID 'a/b' contains unsupported character '/'"],
  ['a|b', "tenant ID 'a|b' contains unsupported character '|'"],
  ['a>', "tenant ID 'a>' contains unsupported character '>'"],
  ['é', "tenant ID 'é' contains unsupported character 'é'"],
  ['a\n', "tenant ID 'a\n' contains unsupported character '\n'"],
])('%j is refused', (id, text) => {
  expect(() => parseTenant(id)).toThrow(new RefusedError('err-carillon-tenant-id', text))
})

test('tokens look like this', () => {
  expect(encodeTenant('team.a_b*')).toBe('team_2Ea_5Fb_2A')
})

test.each(['', 'a.b', 'a_', 'a_2', 'a_2e', 'a_41', '_FF', 'a*', 'a b'])('%j is no token', (token) => {
  expect(() => decodeTenant(token)).toThrow(expect.objectContaining({ code: 'err-carillon-tenant-id' }))
})

test('every id comes back from its token, and no two share one', () => {
  const id = fc.string({ unit: 'grapheme', minLength: 1, maxLength: 150 })
  fc.assert(fc.property(id, (text) => tenantIn(encodeTenant(text)) === text))
  fc.assert(fc.property(id, id, (a, b) => (a === b) === (encodeTenant(a) === encodeTenant(b))))
})
