// Opens partitions that were added (MEMBER-4), one step at a time: readable, then writable.
import { ConflictError, textOf } from '../base/errors.ts'
import type { KvBucket } from '../bus/port.ts'
import { keyFor } from '../bus/record.ts'
import { type PartitionsRecord, partitionsRecord } from '../contracts/member.ts'
import type { Hearing } from './hearing.ts'
import type { View } from './view.ts'

export interface OpeningDeps {
  readonly bucket: KvBucket
  readonly self: { readonly id: string }
  readonly hearing: Hearing
  readonly isConfirmed: () => boolean
  readonly hasLeft: () => boolean
  readonly onError: (text: string) => void
}

export class Opening {
  readonly #deps: OpeningDeps
  #isOpening = false

  constructor(deps: OpeningDeps) {
    this.#deps = deps
  }

  /** After news of the ring. */
  openSoon(): void {
    const { hearing, onError } = this.#deps
    const record = hearing.partitions?.record
    if (record === undefined || record.writable >= record.count) return
    this.openAdded().catch((error: unknown) => onError(`opening partitions: ${textOf(error)}`)) // the next heartbeat tries again
  }

  /** MEMBER-4: the first live member opens what was added; anybody may, the compare-and-set lets one through. */
  async openAdded(): Promise<void> {
    const { bucket, self, hearing, isConfirmed, hasLeft } = this.#deps
    if (hearing.partitions === undefined || this.#isOpening || hasLeft()) return
    const { record, revision } = hearing.partitions
    const opened = openedBy(self.id, hearing.view(), record, revision)
    if (opened === undefined || !isConfirmed()) return
    this.#isOpening = true
    try {
      await bucket.update(keyFor(partitionsRecord, {}), partitionsRecord.format.encode(opened), revision)
    } catch (error) {
      if (!(error instanceof ConflictError)) throw error // another one was first, or there are more by now
    } finally {
      this.#isOpening = false
    }
  }
}

/** The record after the next step, if it is due and this member's to take. */
function openedBy(id: string, now: View, record: PartitionsRecord, revision: number): PartitionsRecord | undefined {
  const live = now.members.filter((member) => member.isHealthy)
  if (record.writable === record.count || live[0]?.id !== id) return undefined
  if (record.readable < record.count) {
    const added = Array.from({ length: record.count - record.readable }, (_, i) => record.readable + i)
    const areFollowed = added.every((partition) => {
      const owners = now.owners(partition)
      return owners.length > 0 && owners.every((each) => now.holders(partition).includes(each))
    })
    return areFollowed ? { ...record, readable: record.count } : undefined
  }
  return live.every((member) => member.ringRevision >= revision) ? { ...record, writable: record.readable } : undefined
}
