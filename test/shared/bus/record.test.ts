// Records: keys, versions, shapes; and that nothing which may stand in a bucket makes reading throw.
import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import {
  decodeAt,
  type Format,
  jsonRecord,
  keyFor,
  keysFor,
  numberRecord,
  paramsOf,
  type RecordContract,
  record,
} from '../../../shared/bus/record.ts'
import { aCount, aName } from '../../../shared/bus/shape.ts'
import { compactionLease } from '../../../shared/contracts/compaction.ts'
import { clusterToken, electionRecord } from '../../../shared/contracts/elections.ts'
import { limitsRecord } from '../../../shared/contracts/limits.ts'
import { checkpointRecord, highWaterRecord, markRecord } from '../../../shared/contracts/log.ts'
import { memberRecord, partitionsRecord } from '../../../shared/contracts/member.ts'
import { scrubLease, scrubRecord } from '../../../shared/contracts/scrubbing.ts'
import { uploadRecord } from '../../../shared/contracts/uploads.ts'
import { firstElected } from '../../../shared/elections/changes.ts'
import { changedLimits } from '../../../shared/limits/limits.ts'

const bytes = (text: string): Uint8Array => Buffer.from(text)

interface Thing {
  readonly v: 1
  readonly name: string
  readonly count: number
}

const thing = record({
  name: 'thing',
  bucket: 'things',
  key: 'thing.{tenant}.{partition}.{id}',
  format: jsonRecord<Thing>(2, { name: aName, count: aCount }, ({ count = 7 }) => ({ count })),
  isSound: ({ name }, { id }) => name === id,
  unreadable: 'nothing',
  newer: 'nothing',
  doc: 'a thing',
})

describe('keys', () => {
  test('a tenant travels encoded, a partition as its number', () => {
    const params = { tenant: 'a b', partition: 3, id: 'x' }
    expect(keyFor(thing, params)).toBe('thing.a_20b.3.x')
    expect(paramsOf(thing, 'thing.a_20b.3.x')).toEqual(params)
    expect(keysFor(thing, { partition: 3 })).toBe('thing.*.3.*')
  })

  test.each([
    ['other.a.3.x'],
    ['thing.a.3'],
    ['thing.a.3.x.y'],
    ['thing.a_b.3.x'],
    ['thing.a.03.x'],
    ['thing.a.-1.x'],
    ['thing.a.x.x'],
    ['thing..3.x'],
    [''],
  ])('"%s" is none', (key) => {
    expect(paramsOf(thing, key)).toBeUndefined()
  })
})

describe('what stands there', () => {
  const params = { tenant: 'a', partition: 3, id: 'x' }
  const read = (text: string) => decodeAt(thing, { key: keyFor(thing, params), params, bytes: bytes(text) })

  test.each([
    ['{"v":1,"name":"x","count":2}', { v: 1, name: 'x', count: 2 }],
    ['{"v":2,"name":"x","count":2,"more":[1]}', { v: 2, name: 'x', count: 2, more: [1] }],
    ['{"name":"x"}', { name: 'x', count: 7 }],
  ])('a value: %s', (text, value) => {
    expect(read(text)).toEqual({ kind: 'value', value })
  })

  test.each([['{"v":3}'], ['{"v":99,"name":5}']])('of a newer version, whatever its fields are: %s', (text) => {
    expect(read(text)).toMatchObject({ kind: 'newer-version' })
  })

  test.each([
    [''],
    ['junk'],
    ['null'],
    ['7'],
    ['[]'],
    ['{}'],
    ['{"v":0,"name":"x"}'],
    ['{"v":"2","name":"x"}'],
    ['{"v":1.5,"name":"x"}'],
    ['{"v":1,"name":"","count":2}'],
    ['{"v":1,"name":"x","count":-1}'],
    ['{"v":1,"name":"x","count":1e300}'],
    ['{"v":1,"name":"x","count":null}'],
    ['{"v":1,"__proto__":{"name":"x","count":1}}'],
    ['{"v":1,"name":"another","count":2}'],
  ])('unreadable: %s', (text) => {
    expect(read(text)).toMatchObject({ kind: 'unreadable' })
  })

  test('a number of a mark, and what is none', () => {
    const format: Format<number> = numberRecord(10)
    expect(
      ['0', '10', '11', '-1', '1.5', 'NaN', '"7"', 'junk', '', 'null'].map((text) => format.decode(bytes(text)).kind),
    ).toEqual([
      ...['value', 'value', 'unreadable', 'unreadable', 'unreadable', 'unreadable', 'unreadable', 'unreadable'],
      ...['unreadable', 'unreadable'],
    ])
    expect(format.decode(bytes('{"v":2,"number":7}')).kind).toBe('newer-version')
    expect(Buffer.from(format.encode(7)).toString()).toBe('7')
  })
})

const lease = { v: 1, holder: 'compactor-1', incarnation: 'i', fence: 3, beat: 4, renewedAtMs: 5 } as const
const upload = {
  ...{ v: 1, tenant: 't', ulid: 'U', nonce: 'n', metaSha256: '', bytes: 1, replaces: false, state: 'uploading' },
  ...{ beganAtMs: 1, changedAtMs: 1, incarnation: '', beat: 0, attempt: 0, blocks: [] },
} as const
const scrub = {
  ...{ v: 1, tenant: 't', by: 'c', beganAtMs: 1, cursor: '', blocks: 0, bytes: 0 },
  findings: [{ what: 'block', state: 'damaged', ulid: 'U', file: 'index', offset: 3, text: 'x' }],
  findingCount: 1,
} as const
const member = {
  ...{ v: 1, id: 'x', role: 'querier', zone: '', state: 'ACTIVE', incarnation: 'i', startedAtMs: 1, version: '1' },
  ...{ capacity: 0, holds: [1], damageCount: 0, ringRevision: 1, beat: 1 },
} as const

/** One of each kind as it stands in a bucket: these bytes are read by versions before this one, and theirs by this one. */
const golden: readonly (readonly [RecordContract<never, never>, object, unknown, string])[] = [
  [memberRecord, { id: 'x' }, member, JSON.stringify(member)],
  [
    partitionsRecord,
    {},
    { v: 1, count: 3, readable: 2, writable: 1, replicationFactor: 2 },
    '{"v":1,"count":3,"readable":2,"writable":1,"replicationFactor":2}',
  ],
  [markRecord, { partition: 0 }, 12, '12'],
  [
    highWaterRecord,
    { partition: 0, distributor: 'd' },
    { session: 's', counter: 1, seq: 2, epoch: 3, incarnation: 'i' },
    '{"session":"s","counter":1,"seq":2,"epoch":3,"incarnation":"i"}',
  ],
  [
    checkpointRecord,
    { partition: 0, ingester: 'i' },
    { seq: 1, crc: 2, incarnation: 'i' },
    '{"seq":1,"crc":2,"incarnation":"i"}',
  ],
  [
    electionRecord,
    { tenant: 't', cluster: clusterToken('eu/1') },
    firstElected('eu/1', 'a', { nowMs: 5, newestSampleMs: 6 }),
    '{"v":1,"cluster":"eu/1","replica":"a","electedAtMs":5,"renewedAtMs":5,"newestSampleMs":6,"takeovers":0}',
  ],
  [
    limitsRecord,
    { whose: 't' },
    changedLimits(undefined, { query_series_max: 5 }, { changedBy: 'me', nowMs: 1 }),
    '{"v":1,"version":1,"changedAtMs":1,"changedBy":"me","limits":{"query_series_max":5},"history":[]}',
  ],
  [compactionLease, { tenant: 't' }, lease, JSON.stringify(lease)],
  [scrubLease, { tenant: 't' }, lease, JSON.stringify(lease)],
  [scrubRecord, { tenant: 't' }, scrub, JSON.stringify(scrub)],
  [uploadRecord, { tenant: 't', ulid: 'U' }, upload, JSON.stringify(upload)],
] as never

describe.each(golden.map((each) => [each[0].name, ...each] as const))('%s', (_, contract, params, value, text) => {
  const at = (given: Uint8Array) =>
    decodeAt(contract, { key: keyFor(contract, params as never), params: params as never, bytes: given })

  test('its bytes stay as they are', () => {
    expect(Buffer.from(contract.format.encode(value as never)).toString()).toBe(text)
    expect(at(bytes(text))).toEqual({ kind: 'value', value })
  })

  test('of a newer version it is told apart', () => {
    expect(at(bytes(JSON.stringify({ ...(value as object), v: 2 }))).kind).toBe('newer-version')
  })

  test('no bytes make reading it throw, and no field of another type passes', () => {
    fc.assert(fc.property(fc.uint8Array({ maxLength: 200 }), (junk) => void at(junk)))
    fc.assert(fc.property(fc.json({ maxDepth: 4 }), (json) => void at(bytes(json))))
    if (typeof value !== 'object' || value === null) return
    const names = Object.keys(value).filter((name) => name !== 'v')
    fc.assert(
      fc.property(fc.constantFrom(...names), fc.jsonValue({ maxDepth: 3 }), (name, other) => {
        const decoded = at(bytes(JSON.stringify({ ...value, [name]: other })))
        const isOfType = typeof other === typeof Reflect.get(value, name)
        if (!isOfType) expect(decoded.kind).toBe('unreadable')
      }),
    )
  })

  test('nesting of any depth is only unreadable', () => {
    for (const deep of ['['.repeat(200_000), `{"v":${'['.repeat(50_000)}${']'.repeat(50_000)}}`])
      expect(at(bytes(deep)).kind).toBe('unreadable')
  })
})
