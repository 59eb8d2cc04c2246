// Every kind of record that stands in a bucket, from the contracts themselves, with keys of nobody and keys that are none.
import { keyFor, type RecordKey, type RecordParams } from '../shared/bus/record.ts'
import * as blocks from '../shared/contracts/blocks.ts'
import * as compaction from '../shared/contracts/compaction.ts'
import * as elections from '../shared/contracts/elections.ts'
import * as keep from '../shared/contracts/keep.ts'
import * as limits from '../shared/contracts/limits.ts'
import * as log from '../shared/contracts/log.ts'
import * as member from '../shared/contracts/member.ts'
import * as scrubbing from '../shared/contracts/scrubbing.ts'
import * as uploads from '../shared/contracts/uploads.ts'

export interface RecordKind {
  readonly place: RecordKey<string>
  /** Keys of what is not there. */
  ghosts(number: number): string
  /** Keys that look like it and are none. */
  readonly noKeys: readonly string[]
}

/** The only one of its kind: there is no key beside it. */
const SINGLE = 'partitions'

export const recordKinds: readonly RecordKind[] = [
  blocks,
  compaction,
  elections,
  keep,
  limits,
  log,
  member,
  scrubbing,
  uploads,
]
  .flatMap((family) => Object.values(family) as unknown[])
  .filter(isPlace)
  .filter(({ name }) => name !== SINGLE)
  .map((place) => ({ place, ghosts: (number) => keyFor(place, ghost(place, number)), noKeys: noKeysOf(place) }))

function isPlace(value: unknown): value is RecordKey<string> {
  return typeof value === 'object' && value !== null && Reflect.get(value, 'kind') === 'record'
}

/** Of a partition that exists where somebody else stands in the key, too. */
function ghost({ key }: RecordKey<string>, number: number): RecordParams<string> {
  const name = `ghost-${number}`
  const partition = key.endsWith('.{partition}') ? 70 + number : 0
  const all = { tenant: name, id: name, cluster: name, ulid: name, whose: name, distributor: name, ingester: name }
  return { ...all, partition } as unknown as RecordParams<string>
}

function noKeysOf({ key, bucket }: RecordKey<string>): string[] {
  if (bucket === 'limits' || bucket === 'elections' || bucket === 'uploads') return ['a_b.x', 'a.b.c', 'x.y.z.w']
  const [first = ''] = key.split('.')
  return [`${first}.a_b.x_`, `${first}.x.y.z.w`, `${first}.-1._`, first]
}
