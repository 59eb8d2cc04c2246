import { expect, test } from 'vitest'
import { publicCode } from '../../../shared/base/error-codes.ts'
import { RefusedError } from '../../../shared/base/errors.ts'
import { failureHeaders, failureIn } from '../../../shared/bus/failure.ts'

test('a refusal leads to the status of the table where its place says no other', () => {
  expect(new RefusedError('err-carillon-not-found', 'nothing there').status).toBe(404)
  expect(new RefusedError('err-carillon-querier-memory', 'later', { status: 429 }).status).toBe(429)
})

test('callers see one form of code', () => {
  expect(publicCode('bus-silent')).toBe('err-carillon-bus-silent')
  expect(publicCode('err-carillon-not-found')).toBe('err-carillon-not-found')
})

test('a code that only another version knows goes on as it came', () => {
  const headers = failureHeaders(new RefusedError('err-carillon-undone', 'no more'))
  const ofThen = { ...headers, 'Nats-Service-Error-Code': 'of-tomorrow', 'Carillon-Error-Status': '451' }
  expect(failureIn(ofThen)).toMatchObject({ kind: 'refused', code: 'of-tomorrow', status: 451 })
  for (const code of ['of-tomorrow', 'constructor'])
    expect(failureIn({ ...ofThen, 'Nats-Service-Error-Code': code, 'Carillon-Error-Status': '' })).toMatchObject({
      code,
      status: 400,
    })
})
