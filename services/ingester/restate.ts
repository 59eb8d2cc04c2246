// Metadata and exemplars live in the log and in memory only. Before a part of the log is said to be flushed, and so is neither replayed nor
// kept, the leader states again what stands nowhere later: batches in sessions of their own, which hold no samples. Applying them changes
// nothing where they are known.
import { hex, type Random } from '../../shared/base/random.ts'
import type { Bus } from '../../shared/bus/port.ts'
import { batchSubject, logName } from '../../shared/contracts/log.ts'
import { textsKey } from '../../shared/model/text-key.ts'
import { encodeLogBatch, SESSION_BYTES } from '../../shared/wire/log-batch.ts'
import { Writer } from '../../shared/wire/varint.ts'
import type { Owner } from './owner.ts'
import type { AppliedMark, PartitionState } from './partition-state.ts'

const BATCH_BYTES_TARGET = 64 * 1024
const APPEND_TIMEOUT_MS = 5_000
const APPLY_MS = 5_000
/** Of each tenant in a partition only so many, the newest, outlive the part of the log that they came in. */
const EXEMPLARS_MAX = 1_000
const NO_BYTES = new Uint8Array(0)
const NO_VALUES = new Float64Array(0)

export interface RestateDeps {
  readonly bus: Bus
  readonly random: Random
}

/** Appends what was last stated before a segment, and waits until it is applied: only then it counts. True when nothing is left to state. */
export async function restate(owner: Owner, before: number, { bus, random }: RestateDeps): Promise<boolean> {
  const { partition, state } = owner
  const { mark } = state
  if (mark === undefined) return true
  const batches = [...batchesOf(state, before)]
  if (batches.length === 0) return true
  let lastSeq = 0
  for (const batch of batches) {
    const session = random.bytes(SESSION_BYTES)
    const options = { timeoutMs: APPEND_TIMEOUT_MS, messageId: `${hex(session)}-1` }
    const stored = await bus.logs.append(
      logName(partition),
      batchSubject(partition),
      batch.seal(session, mark),
      options,
    )
    lastSeq = stored.seq
  }
  await owner.waitFor(lastSeq, APPLY_MS)
  return owner.state === state && batchesOf(state, before).next().done === true
}

function* batchesOf(state: PartitionState, before: number): Generator<RestatedBatch, void> {
  let batch = new RestatedBatch()
  for (const { tenant, row } of state.metadata.toldBefore(before)) {
    for (const text of [tenant, row.metric, row.type, row.help, row.unit]) batch.metadata.text(text)
    if (!batch.isFull) continue
    yield batch
    batch = new RestatedBatch()
  }
  for (const [tenant, head] of state.heads) {
    if (state.isSilent(head)) continue
    for (const { ref, exemplar } of head.exemplarsStatedBefore(before, EXEMPLARS_MAX)) {
      const { exemplars } = batch
      exemplars.uvarint(batch.idOf(tenant, head.labelsOf(ref)))
      exemplars.zigzag(exemplar.time)
      exemplars.number(exemplar.value)
      exemplars.uvarint(exemplar.labels.length / 2)
      for (const text of exemplar.labels) exemplars.text(text)
      if (!batch.isFull) continue
      yield batch
      batch = new RestatedBatch()
    }
  }
  if (batch.metadata.length + batch.exemplars.length > 0) yield batch
}

class RestatedBatch {
  readonly metadata = new Writer(1024)
  readonly exemplars = new Writer(1024)
  private readonly strings = new Writer(1024)
  private readonly definitions = new Writer(1024)
  private readonly numbers = new Map<string, number>()
  private readonly ids = new Map<string, number>()

  get isFull(): boolean {
    const length = this.metadata.length + this.exemplars.length + this.strings.length + this.definitions.length
    return length >= BATCH_BYTES_TARGET
  }

  /** The id of a series, defined where it is new (L3). */
  idOf(tenant: string, labels: readonly string[]): number {
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
