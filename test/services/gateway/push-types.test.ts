// What a push is taken for, line by line as services/gateway/README.md says it; and what is said where nothing stands.
import { expect, test } from 'vitest'
import { notFound } from '../../../services/gateway/http/not-found.ts'
import { checkEncoding, protocolOf } from '../../../services/gateway/routes/push-types.ts'

const V1 = 'application/x-protobuf;proto=prometheus.WriteRequest'
const V2 = 'application/x-protobuf;proto=io.prometheus.write.v2.Request'

test.each<[string | undefined, 1 | 2 | 415]>([
  [undefined, 1],
  ['', 1],
  [' ', 1],
  [';', 1],
  ['application/x-protobuf', 1],
  ['application/x-protobuf;', 1],
  ['application/x-protobuf; charset=utf-8', 1],
  [V1, 1],
  [V2, 2],
  ['Application/X-Protobuf ; Proto = "io.prometheus.write.v2.Request"', 2],
  [`${V1};proto=io.prometheus.write.v2.Request`, 2],
  [`${V2};proto=prometheus.WriteRequest`, 1],
  ['application/x-protobuf;proto=', 415],
  ['application/x-protobuf;proto=io.prometheus.write.v3.Request', 415],
  ['application/x-protobuf;proto=toString', 415],
  ['application/json', 415],
  ['text/plain', 415],
  ['application/octet-stream', 415],
  ['application/protobuf', 415],
  ['application/vnd.google.protobuf', 415],
  [`text/plain;${V2}`, 415],
  [';proto=io.prometheus.write.v2.Request', 415],
])('content type %j is %s', (type, outcome) => {
  if (outcome !== 415) return expect(protocolOf(type)).toBe(outcome)
  expect(() => protocolOf(type)).toThrow(expect.objectContaining({ status: 415 }))
  expect(() => protocolOf(type)).toThrow(/WriteRequest or .*io\.prometheus\.write\.v2\.Request/)
})

test.each<[string | undefined, boolean]>([
  [undefined, true],
  ['', true],
  ['snappy', true],
  [' Snappy ', true],
  ['gzip', false],
  ['zstd', false],
  ['snappy, gzip', false],
])('encoding %j is taken: %s', (encoding, isTaken) => {
  if (isTaken) return expect(checkEncoding(encoding)).toBeUndefined()
  expect(() => checkEncoding(encoding)).toThrow(expect.objectContaining({ status: 415 }))
})

test.each([
  ['/', 'pushes go to /api/v1/push'],
  ['/otlp/v1/metrics', 'OTLP is not understood'],
  ['/api/v1/otlp/v1/metrics', 'prometheusremotewrite exporter'],
  ['/api/v1/push/api/v1/write', 'the address without one'],
  ['/api/v1/import/prometheus', 'Prometheus remote write 1.0 and 2.0'],
  ['/alertmanager/api/v2/alerts', 'rules and alerts are not evaluated here'],
  [`/${'x'.repeat(5000)}`, '…; pushes go to /api/v1/push'],
])('where nothing stands, at %s, it says where to go', (path, text) => {
  const fault = notFound(path)
  expect(fault).toMatchObject({ status: 404, code: 'err-carillon-not-found' })
  expect(fault.message).toContain(text)
  expect(fault.message.length).toBeLessThan(800)
})
