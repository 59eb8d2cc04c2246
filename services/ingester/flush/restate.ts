// Metadata and exemplars live in the log and in memory only. Before a part of the log is said to be flushed, and so is neither replayed nor
// kept, the leader states again what stands nowhere later: batches in sessions of their own, which hold no samples. They say where each was told
// (DELETE-15), so that what a deletion of the tenant has taken stays taken. Applying them changes nothing where they are known.
import type { Clock } from '../../../shared/base/clock.ts'
import { CorruptError } from '../../../shared/base/errors.ts'
import { hex, type Random } from '../../../shared/base/random.ts'
import { tenantPlaces } from '../../../shared/blocks/delete-rules.ts'
import type { Blocks } from '../../../shared/blocks/port.ts'
import type { Bus } from '../../../shared/bus/port.ts'
import { batchSubject, fits, logName, MESSAGE_BYTES_EXTRA } from '../../../shared/contracts/log.ts'
import { isBefore, type Place } from '../../../shared/model/place.ts'
import { textsKey } from '../../../shared/model/text-key.ts'
import type { Exemplar, StatedExemplar } from '../../../shared/tsdb/head/exemplars.ts'
import type { Head } from '../../../shared/tsdb/head/head.ts'
import { encodeLogBatch, SESSION_BYTES } from '../../../shared/wire/log-batch.ts'
import { PlacesWriter } from '../../../shared/wire/places-column.ts'
import { Writer } from '../../../shared/wire/varint.ts'
import type { Owner } from '../log/owner.ts'
import { isSilent } from '../state/forgetting.ts'
import type { AppliedMark } from '../state/partition-state.ts'

const BATCH_BYTES_TARGET = 64 * 1024
const APPEND_TIMEOUT_MS = 5_000
const APPLY_MS = 5_000
/** Of each tenant in a partition only so many, the newest, outlive the part of the log that they came in. */
const EXEMPLARS_MAX = 1_000
/** Of all tenants of a partition that write no more: what they once told is stated again for ever. */
const SILENT_EXEMPLARS_MAX = 10_000
/** After the last try. */
const UNSTATED_MS_MAX = 10 * 60_000
const NO_BYTES = new Uint8Array(0)
const NO_VALUES = new Float64Array(0)

export interface RestateDeps {
  readonly clock: Clock
  readonly bus: Bus
  readonly random: Random
  readonly blocks: Pick<Blocks, 'manifest'>
}

/** `full`: the log has no room for all of it (LOG-7), which stays in memory and is stated when there is; until then it ends with its owners. */
export type Restated = 'done' | 'again' | 'full'

/** Appends what was last stated before a segment, and waits until it is applied: only then it counts. */
export async function restate(owner: Owner, before: number, deps: RestateDeps): Promise<Restated> {
  const { bus, random } = deps
  const { partition, state } = owner
  const { mark } = state
  const batches = mark === undefined ? [] : [...batchesOf(owner, before, deps)]
  owner.unstated = undefined
  if (mark === undefined || batches.length === 0) return 'done'
  const log = logName(partition)
  let { bytes, bytesMax } = await bus.logs.state(log)
  let lastSeq = 0
  let isFull = false
  for (const batch of batches) {
    state.use.assertNotOver() // STATE-6
    const session = random.bytes(SESSION_BYTES)
    const options = { timeoutMs: APPEND_TIMEOUT_MS, messageId: `${hex(session)}-1` }
    const payload = batch.seal(session, mark)
    isFull = !fits('restated', { bytes, bytesMax }, payload.length)
    if (isFull) break
    bytes += payload.length + MESSAGE_BYTES_EXTRA
    lastSeq = (await bus.logs.append(log, batchSubject(partition), payload, options)).seq
  }
  if (lastSeq > 0) await owner.waitFor(lastSeq, APPLY_MS)
  if (isFull) owner.unstated = { before, sinceMs: deps.clock.monotonic() }
  if (isFull) return 'full'
  state.use.assertNotOver() // STATE-6
  return owner.state === state && batchesOf(owner, before, deps).next().done === true ? 'done' : 'again'
}

/** Whether memory has to keep what waits for room in the log. Not for ever: who led once may know what nobody states again any more. */
export function isOwing(owner: Owner, deps: RestateDeps): boolean {
  const { unstated } = owner
  if (unstated === undefined) return false
  const isOld = deps.clock.monotonic() - unstated.sinceMs >= UNSTATED_MS_MAX
  if (isOld || batchesOf(owner, unstated.before, deps).next().done === true) owner.unstated = undefined
  return owner.unstated !== undefined
}

function* batchesOf(owner: Owner, before: number, { blocks }: RestateDeps): Generator<RestatedBatch, void> {
  const { state, partition } = owner
  const isKept = (tenant: string, place: Place) => {
    const gone = goneOf.get(tenant) ?? placesGone(blocks, tenant, partition)
    goneOf.set(tenant, gone)
    return !gone.some((end) => isBefore(place, end))
  }
  const goneOf = new Map<string, readonly Place[]>()
  let batch = new RestatedBatch()
  for (const { tenant, row, place } of state.metadata.toldBefore(before)) {
    if (!isKept(tenant, place)) continue
    for (const text of [tenant, row.metric, row.type, row.help, row.unit]) batch.metadata.text(text)
    batch.metadataPlaces.add(place)
    if (!batch.isFull) continue
    yield batch
    batch = new RestatedBatch()
  }
  for (const { tenant, head, ref, exemplar, segment, place } of newestExemplars(state)) {
    if (segment >= before || !isKept(tenant, place)) continue
    batch.add(tenant, head.labelsOf(ref), exemplar, place)
    if (!batch.isFull) continue
    yield batch
    batch = new RestatedBatch()
  }
  if (batch.metadata.length + batch.exemplars.length > 0) yield batch
}

/** Those that outlive the log: of tenants that write, and of those that are silent. */
function* newestExemplars(state: Owner['state']): Generator<StatedExemplar & { tenant: string; head: Head }, void> {
  const ofSilent: (StatedExemplar & { tenant: string; head: Head })[] = []
  for (const [tenant, head] of state.heads) {
    const writesNoMore = isSilent(head)
    for (const stated of head.newestExemplars(EXEMPLARS_MAX)) {
      if (writesNoMore) ofSilent.push({ ...stated, tenant, head })
      else yield { ...stated, tenant, head }
    }
  }
  yield* ofSilent.sort((a, b) => b.exemplar.time - a.exemplar.time).slice(0, SILENT_EXEMPLARS_MAX)
}

/** Before which places all that was told of a tenant is gone for good (DELETE-15). None where that cannot be said: what is stated again says where it
 *  was told, and is compared again by whoever shows it. */
export function placesGone(blocks: Pick<Blocks, 'manifest'>, tenant: string, partition: number): readonly Place[] {
  try {
    const stored = blocks.manifest(tenant)
    return stored === undefined ? [] : tenantPlaces(stored.manifest, partition, true)
  } catch (error) {
    if (error instanceof CorruptError) return []
    throw error
  }
}

class RestatedBatch {
  readonly metadata = new Writer(1024)
  readonly metadataPlaces = new PlacesWriter()
  readonly exemplars = new Writer(1024)
  private readonly exemplarPlaces = new PlacesWriter()
  private readonly strings = new Writer(1024)
  private readonly definitions = new Writer(1024)
  private readonly numbers = new Map<string, number>()
  private readonly ids = new Map<string, number>()

  get isFull(): boolean {
    const length = this.metadata.length + this.exemplars.length + this.strings.length + this.definitions.length
    return length >= BATCH_BYTES_TARGET
  }

  add(tenant: string, labels: readonly string[], exemplar: Exemplar, place: Place): void {
    const { exemplars } = this
    exemplars.uvarint(this.idOf(tenant, labels))
    exemplars.zigzag(exemplar.time)
    exemplars.number(exemplar.value)
    exemplars.uvarint(exemplar.labels.length / 2)
    for (const text of exemplar.labels) exemplars.text(text)
    this.exemplarPlaces.add(place)
  }

  /** The id of a series, defined where it is new (LOG-3). */
  private idOf(tenant: string, labels: readonly string[]): number {
    const key = textsKey([tenant, ...labels])
    const known = this.ids.get(key)
    if (known !== undefined) return known
    const id = this.ids.size
    const numbers = [tenant, ...labels].map((text) => this.numberOf(text))
    this.ids.set(key, id)
    this.definitions.uvarint(id)
    this.definitions.uvarint(numbers[0]!)
    this.definitions.uvarint(labels.length / 2)
    for (const number of numbers.slice(1)) this.definitions.uvarint(number)
    return id
  }

  seal(session: Uint8Array, { number, nonce }: AppliedMark): Uint8Array {
    return encodeLogBatch({
      ...{ session, epoch: number, nonce, counter: 1, lastCounter: 0, lastSeq: 0 },
      ...{ strings: this.strings.finish(), definitions: this.definitions.finish() },
      ...{ sampleCount: 0, ids: NO_BYTES, times: NO_BYTES, values: NO_VALUES, histograms: NO_BYTES },
      ...{ exemplars: this.exemplars.finish(), metadata: this.metadata.finish() },
      ...{ exemplarPlaces: this.exemplarPlaces.finish(), metadataPlaces: this.metadataPlaces.finish() },
    })
  }

  private numberOf(text: string): number {
    const known = this.numbers.get(text)
    if (known !== undefined) return known
    const number = this.numbers.size
    this.numbers.set(text, number)
    this.strings.uvarint(number)
    this.strings.text(text)
    return number
  }
}
