// The server side of one key-value bucket in memory: one revision counter for the whole bucket, the newest value of each
// key, deletions kept as entries without a value, and of each key a few that were replaced, for copies that are behind.
import { ConflictError } from '../../base/errors.ts'
import type { Subscription } from '../../base/listeners.ts'
import type { KvEntry } from '../port.ts'
import { isMatch } from '../subject.ts'

/** Replaced entries of one key that are kept. */
const formerMax = 8

interface Waiter {
  readonly filter: string
  readonly wake: () => void
}

export class MemoryBucket {
  readonly name: string
  #revision = 0
  readonly #entries = new Map<string, KvEntry>()
  readonly #former = new Map<string, KvEntry[]>()
  readonly #waiters = new Set<Waiter>()
  /** How often its newest writes were lost. */
  life = 0

  constructor(name: string) {
    this.name = name
  }

  get revision(): number {
    return this.#revision
  }

  get(key: string): KvEntry | undefined {
    return this.#entries.get(key)
  }

  /** What a copy answers that lacks the newest `behind` changes of the bucket. */
  getBehind(key: string, behind: number): KvEntry | undefined {
    const newest = this.#entries.get(key)
    const reached = this.#revision - behind
    if (newest === undefined || newest.revision <= reached) return newest
    const former = this.#former.get(key) ?? []
    return former.findLast(({ revision }) => revision <= reached) ?? former[0]
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
    const before = this.#entries.get(key)
    if (before !== undefined) this.#replaced(before)
    this.#entries.set(key, { key, value, revision: this.#revision })
    this.#wake(({ filter }) => isMatch(filter, key))
    return this.#revision
  }

  /** It ends at this revision again: what came later is lost, and its revisions are given once more. */
  cutTail(revision: number): void {
    for (const [key, entry] of this.#entries) {
      if (entry.revision <= revision) continue
      const former = this.#former.get(key) ?? []
      const before = former.findLast((each) => each.revision <= revision)
      if (before === undefined) this.#entries.delete(key)
      else this.#entries.set(key, before)
      this.#former.set(
        key,
        former.filter((each) => each.revision < (before?.revision ?? 0)),
      )
    }
    this.#revision = Math.min(this.#revision, revision)
    this.life++
    this.#wake(() => true)
  }

  #wake(isMeant: (waiter: Waiter) => boolean): void {
    for (const waiter of [...this.#waiters]) {
      if (!isMeant(waiter)) continue
      this.#waiters.delete(waiter)
      waiter.wake()
    }
  }

  #replaced(entry: KvEntry): void {
    const former = this.#former.get(entry.key) ?? []
    former.push(entry)
    if (former.length > formerMax) former.shift()
    this.#former.set(entry.key, former)
  }

  /** Entries newer than `revision` that match, oldest change first. */
  changesSince(revision: number, filter: string): KvEntry[] {
    return [...this.#entries.values()]
      .filter((entry) => entry.revision > revision && isMatch(filter, entry.key))
      .sort((a, b) => a.revision - b.revision)
  }

  /** Calls `wake` once, after the next change of a key that matches. */
  onChange(filter: string, wake: () => void): Subscription {
    const waiter = { filter, wake }
    this.#waiters.add(waiter)
    return { stop: () => void this.#waiters.delete(waiter) }
  }
}
