// The server side of one key-value bucket in memory: one revision counter for the whole bucket, the newest value of each
// key, deletions kept as entries without a value.
import { ConflictError } from '../base/errors.ts'
import type { Subscription } from '../base/listeners.ts'
import type { KvEntry } from './port.ts'
import { isMatch } from './subject.ts'

export class MemoryBucket {
  readonly name: string
  #revision = 0
  readonly #entries = new Map<string, KvEntry>()
  readonly #waiters = new Set<() => void>()

  constructor(name: string) {
    this.name = name
  }

  get revision(): number {
    return this.#revision
  }

  get(key: string): KvEntry | undefined {
    return this.#entries.get(key)
  }

  create(key: string, value: Uint8Array): number {
    const entry = this.#entries.get(key)
    if (entry?.value !== undefined) {
      throw new ConflictError('kv-conflict', `${this.name}: ${key} exists at revision ${entry.revision}`)
    }
    return this.write(key, value)
  }

  update(key: string, value: Uint8Array, expectedRevision: number): number {
    this.#expect(key, expectedRevision)
    return this.write(key, value)
  }

  remove(key: string, expectedRevision: number | undefined): number {
    if (expectedRevision !== undefined) this.#expect(key, expectedRevision)
    return this.write(key, undefined)
  }

  #expect(key: string, expectedRevision: number): void {
    const revision = this.#entries.get(key)?.revision ?? 0
    if (revision === expectedRevision) return
    throw new ConflictError('kv-conflict', `${this.name}: ${key} is at revision ${revision}, not ${expectedRevision}`)
  }

  write(key: string, value: Uint8Array | undefined): number {
    this.#revision += 1
    this.#entries.set(key, { key, value, revision: this.#revision })
    const waiters = [...this.#waiters]
    this.#waiters.clear()
    for (const waiter of waiters) waiter()
    return this.#revision
  }

  /** Entries newer than `revision` that match, oldest change first. */
  changesSince(revision: number, filter: string): KvEntry[] {
    return [...this.#entries.values()]
      .filter((entry) => entry.revision > revision && isMatch(filter, entry.key))
      .sort((a, b) => a.revision - b.revision)
  }

  /** Calls `waiter` once, after the next change. */
  onChange(waiter: () => void): Subscription {
    this.#waiters.add(waiter)
    return { stop: () => void this.#waiters.delete(waiter) }
  }
}
