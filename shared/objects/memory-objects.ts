// Objects in memory, for tests and the simulation: one store stands for the whole system, and outlives those who close it.
import { assert } from '../base/assert.ts'
import type { Clock } from '../base/clock.ts'
import { systemClock } from '../base/clock.ts'
import { sha256Of } from '../wire/sha256.ts'
import { Deadline } from './deadline.ts'
import { exists, isDamage, type Layout, layOut, missing, readRange, storedSizeOf, verifyWhole } from './layout.ts'
import { checkName } from './names.ts'
import { CREATE_MS_MAX, type ObjectInfo, type ObjectStore, SWEEP_AGE_MS_MIN } from './port.ts'

export type ObjectOperation = 'create' | 'info' | 'read' | 'list' | 'delete' | 'sweep'

export interface MemoryObjectsOptions {
  readonly clock?: Clock
  /** Runs before every operation; may wait, and may throw what a store would. */
  readonly before?: (operation: ObjectOperation, name: string) => Promise<void> | void
}

export interface MemoryObjects extends ObjectStore {
  readonly kind: 'memory'
  /** Turns one bit at rest over. */
  damage(name: string): void
}

interface Stored {
  readonly info: ObjectInfo
  readonly layout: Layout
  readonly parts: readonly Uint8Array[]
}

export function memoryObjects({ clock = systemClock, before }: MemoryObjectsOptions = {}): MemoryObjects {
  const objects = new Map<string, Stored>()
  const readPart = (stored: Stored) => async (index: number) => stored.parts[index] as Uint8Array
  const isDamaged = (name: string, stored: Stored) =>
    verifyWhole(name, stored.layout, readPart(stored)).then(
      () => false,
      (error: unknown) => {
        if (isDamage(error)) return true
        throw error
      },
    )
  return {
    kind: 'memory',
    async create(name, bytes, call) {
      checkName(name)
      assert(call.timeoutMs <= CREATE_MS_MAX, `a create of ${call.timeoutMs} ms`)
      const deadline = new Deadline(clock, call, `create of ${name}`)
      const given = Uint8Array.from(bytes)
      await before?.('create', name)
      const laidOut = await layOut(given, { packs: false }) // packing leaves the thread, and virtual time with it
      deadline.left()
      let stored = objects.get(name)
      if (stored !== undefined && call.heals && (await isDamaged(name, stored))) stored = undefined
      if (stored !== undefined && stored.layout.sha256 !== sha256Of(given)) throw exists(name)
      if (stored === undefined) {
        const { layout } = laidOut
        const { size, sha256 } = layout
        stored = {
          ...laidOut,
          info: { name, size, sha256, storedSize: storedSizeOf(layout), storedAtMs: clock.now() },
        }
        objects.set(name, stored)
      }
      if (call.readBack) await verifyWhole(name, stored.layout, readPart(stored))
      return stored.info
    },
    async info(name, call) {
      checkName(name)
      await before?.('info', name)
      call.signal?.throwIfAborted()
      return objects.get(name)?.info
    },
    async read(name, range, call) {
      checkName(name)
      await before?.('read', name)
      call.signal?.throwIfAborted()
      const stored = objects.get(name)
      if (stored === undefined) throw missing(name)
      return readRange(name, stored.layout, range, readPart(stored))
    },
    async list(prefix, call) {
      await before?.('list', prefix)
      call.signal?.throwIfAborted()
      return [...objects.values()].map(({ info }) => info).filter(({ name }) => name.startsWith(prefix))
    },
    async delete(name, call) {
      checkName(name)
      await before?.('delete', name)
      call.signal?.throwIfAborted()
      objects.delete(name)
    },
    async sweep(olderThanMs) {
      assert(olderThanMs >= SWEEP_AGE_MS_MIN, `a sweep of ${olderThanMs} ms`)
      await before?.('sweep', '')
      return { count: 0, bytes: 0 }
    },
    async close() {},
    damage(name) {
      const stored = objects.get(name)
      assert(stored !== undefined, `${name} is there`)
      const parts = stored.parts.map((part) => Uint8Array.from(part))
      const part = parts[parts.length >> 1]
      assert(part !== undefined, `${name} has bytes`)
      part[part.length >> 1] = (part[part.length >> 1] ?? 0) ^ 4
      objects.set(name, { ...stored, parts })
    },
  }
}
