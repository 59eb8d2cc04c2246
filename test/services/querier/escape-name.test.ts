// Names as a scraper wants them escaped: what its parser takes is left alone. The right values are Prometheus' answers.
import { expect, test } from 'vitest'
import { escapeName } from '../../../services/querier/api/escape-name.ts'

test.each([
  ['http_requests', { dots: 'http_requests', values: 'http_requests', underscores: 'http_requests' }],
  ['http.requests', { dots: 'http_dot_requests', values: 'U__http_2e_requests', underscores: 'http_requests' }],
  ['http.a_b', { dots: 'http_dot_a__b', values: 'U__http_2e_a__b', underscores: 'http_a_b' }],
  ['', { dots: '', values: '', underscores: '' }],
])('%s', (name, escaped) => {
  for (const [scheme, text] of Object.entries(escaped)) expect(escapeName(name, scheme as 'dots')).toBe(text)
  expect(escapeName(name, 'allow-utf-8')).toBe(name)
})
