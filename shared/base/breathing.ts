// The time of one thread, shared between pieces of work that take long. Each works for a slice, then gives way: to I/O and timers, and to
// those that have had less of the time.
//
// Invariants
//   BREATH-1  Long work keeps the event loop for itself no longer than a slice, all pieces of work together, and what it does between two looks.
//   BREATH-2  Of those that wait for a slice, one of the owner (a tenant) that has had least is next, and of its pieces the one that has had
//       least. Who comes new stands a little before those that are at work, so short work passes long work.
//   BREATH-3  A piece of work that was ended does not wait for its turn.
import type { Clock } from './clock.ts'

/** What one piece of work asks in its loops: `if (breath.isDue(work)) await breath.breathe()`. */
export interface Breath {
  /** Counts what was done since the last look, in units of about a nanosecond or two: a sample looked at, a character copied. True when it
   *  is time to breathe. */
  isDue(work: number): boolean
  /** Lets others have their turn, if it is time. Rejects when the work is not wanted any more. */
  breathe(): Promise<void>
}

/** Work that nobody waits behind: in tests, in threads of their own. */
export const UNHURRIED: Breath = { isDue: () => false, breathe: async () => {} }

/** How long work keeps the event loop, ms. */
const SLICE_MS = 5
/** Done before the clock is looked at. */
const LOOK_WORK = 10_000
/** What who comes new is ahead of those at work, ms of their time. */
const NEWCOMER_MS = 50
/** Owners whose share is remembered while they have nothing at work. */
const OWNERS_MAX = 1_024

interface Share {
  usedMs: number
  /** Of what is below it and was last at work: newcomers begin near it. */
  floorMs: number
}

interface Owner extends Share {
  openCount: number
}

interface Waiting {
  readonly owner: Owner
  readonly piece: { usedMs: number }
  readonly go: () => void
}

export class Breathing {
  private readonly clock: Clock
  private readonly owners = new Map<string, Owner>()
  private readonly waiting = new Set<Waiting>() // as many as there are pieces of work
  private floorMs = 0
  private turnStartedMs = 0
  private isTurnTimed = false
  private isGranting = false

  constructor(clock: Clock) {
    this.clock = clock
  }

  /** Pieces of work that wait for a slice. */
  get waitingCount(): number {
    return this.waiting.size
  }

  /** @param check called when a slice begins and ends: throws when the work is not wanted any more
   *  @param signal ends the wait for a slice; its reason is thrown */
  open(
    name: string,
    signal: AbortSignal,
    check: () => void = () => signal.throwIfAborted(),
  ): Breath & { close(): void } {
    const owner = this.ownerOf(name)
    owner.openCount++
    const piece = { usedMs: Math.max(0, owner.floorMs - NEWCOMER_MS) }
    let work = 0
    return {
      isDue: (done) => {
        work += done
        if (work < LOOK_WORK) return false
        work = 0
        return this.isTurnOver()
      },
      breathe: async () => {
        check()
        if (!this.isTurnOver()) return
        const hadMs = this.clock.monotonic() - this.turnStartedMs
        owner.usedMs += hadMs
        piece.usedMs += hadMs
        await this.turn(owner, piece, signal)
        check()
      },
      close: () => {
        owner.openCount--
      },
    }
  }

  /** BREATH-1: whatever was done since the event loop last turned counts, whoever did it. */
  private isTurnOver(): boolean {
    if (this.isTurnTimed) return this.clock.monotonic() - this.turnStartedMs >= SLICE_MS
    this.isTurnTimed = true
    this.turnStartedMs = this.clock.monotonic()
    this.clock.turn(() => {
      this.isTurnTimed = false
    })
    return false
  }

  private turn(owner: Owner, piece: { usedMs: number }, signal: AbortSignal): Promise<void> {
    return new Promise((resolve, reject) => {
      const leave = () => {
        signal.removeEventListener('abort', onAbort)
        this.waiting.delete(waiting)
      }
      const onAbort = () => {
        leave()
        reject(signal.reason) // BREATH-3
      }
      const go = () => {
        leave()
        resolve()
      }
      const waiting = { owner, piece, go }
      this.waiting.add(waiting)
      signal.addEventListener('abort', onAbort, { once: true })
      this.grantLater()
    })
  }

  /** One slice each time the event loop turns: it has looked at I/O before. */
  private grantLater(): void {
    if (this.isGranting) return
    this.isGranting = true
    this.clock.turn(() => {
      this.isGranting = false
      const next = this.next()
      if (next === undefined) return
      const { owner, piece, go } = next
      this.floorMs = Math.max(this.floorMs, owner.usedMs)
      owner.floorMs = Math.max(owner.floorMs, piece.usedMs)
      this.isTurnTimed = true
      this.turnStartedMs = this.clock.monotonic()
      this.clock.turn(() => {
        this.isTurnTimed = false
      })
      go()
      if (this.waiting.size > 0) this.grantLater()
    })
  }

  /** BREATH-2 */
  private next(): Waiting | undefined {
    let best: Waiting | undefined
    for (const each of this.waiting) {
      if (best === undefined || comesBefore(each, best)) best = each
    }
    return best
  }

  private ownerOf(name: string): Owner {
    const known = this.owners.get(name)
    const owner = known ?? { usedMs: 0, floorMs: 0, openCount: 0 }
    if (owner.openCount === 0) owner.usedMs = Math.max(owner.usedMs, this.floorMs - NEWCOMER_MS)
    if (known === undefined) {
      this.owners.set(name, owner)
      if (this.owners.size > OWNERS_MAX) this.forgetOne()
    }
    return owner
  }

  private forgetOne(): void {
    for (const [name, { openCount }] of this.owners) {
      if (openCount > 0) continue
      this.owners.delete(name)
      return
    }
  }
}

function comesBefore(a: Waiting, b: Waiting): boolean {
  if (a.owner !== b.owner) return a.owner.usedMs < b.owner.usedMs
  return a.piece.usedMs < b.piece.usedMs
}

/** Done at once, in units of work. */
const PIECE_WORK = 50_000

/** Calls `work` for pieces of [0, length) one after the other. What is short is done at once, and undefined; what is not must be waited for.
 *  @param weight of one, in units of work */
export function inPieces(
  length: number,
  weight: number,
  breath: Breath,
  work: (from: number, to: number) => void,
): Promise<void> | undefined {
  if (length * weight > PIECE_WORK) return pieceByPiece(length, weight, breath, work)
  work(0, length)
  return undefined
}

async function pieceByPiece(
  length: number,
  weight: number,
  breath: Breath,
  work: (from: number, to: number) => void,
): Promise<void> {
  const size = Math.max(1, Math.ceil(PIECE_WORK / weight))
  for (let from = 0; from < length; from += size) {
    const to = Math.min(length, from + size)
    work(from, to)
    if (breath.isDue((to - from) * weight)) await breath.breathe()
  }
}

/** Calls `visit` for each of a list.
 *  @param weight of one, in units of work */
export async function forEach<T>(
  list: Iterable<T>,
  weight: number,
  breath: Breath,
  visit: (item: T) => void,
): Promise<void> {
  for (const item of list) {
    visit(item)
    if (breath.isDue(weight)) await breath.breathe()
  }
}
