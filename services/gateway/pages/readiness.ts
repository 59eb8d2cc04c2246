// Whether writes and reads work now, over this gateway: what a load balancer and a script that waits want to know.
//
// Invariants
//   READY-1  Ready is said of what was tried: a distributor and a querier that can do their work have answered, and one holder of each partition.
//       What heartbeats say (who lives, who has caught up) is not enough: a member joins the ring before it can be asked.
//   READY-2  However many ask, there is one look at a time; it is over within the timeout of its question, and what it saw is told for a second.
//   READY-3  Ready does not flap: a member that is late once is believed for `BELIEVED_MS`. One that is gone, or says what it lacks, is not.
//   READY-4  What is missing is said in words, one line each, with whose turn it is.
import { textOf } from '../../../shared/base/errors.ts'
import { ask } from '../../../shared/bus/ask.ts'
import type { Bus } from '../../../shared/bus/port.ts'
import { type Role, readiness } from '../../../shared/contracts/member.ts'
import type { Member, Membership } from '../../../shared/membership/membership.ts'
import { isUnheard } from '../http/exchange.ts'

export type Side = 'writes' | 'reads'

/** What a role does that nothing works without: take writes in, answer reads, hold the partitions. */
export type Duty = Side | 'partitions'

/** Of a role that takes writes or answers reads one must be able to; of one that holds partitions, a holder of each. */
export interface Need {
  readonly role: Role
  readonly duty: Duty
}

export interface Lack {
  /** What cannot be done; both when absent. */
  readonly side?: Side
  readonly text: string
}

export interface Readiness {
  /** What keeps this gateway from taking writes and answering queries; empty when nothing does. */
  lacks(): Promise<readonly Lack[]>
}

export interface ReadinessDeps {
  readonly bus: Bus
  readonly membership: Membership
  readonly needs: readonly Need[]
  /** Throws when the server's durability is not the one required. */
  readonly assertDurable: () => void
}

const READY_AGE_MS_MAX = 1_000
/** Whoever waits for a start is told soon. */
const LACKING_AGE_MS_MAX = 200
const BELIEVED_MS = 5_000
/** Partitions named in one line. */
const NAMED_MAX = 20

/** What a member said last, or that it cannot be asked. */
type Word = { readonly kind: 'gone' | 'silent' } | { readonly kind: 'answered'; readonly lacks: readonly string[] }

const GONE: Word = { kind: 'gone' }
const SILENT: Word = { kind: 'silent' }

export function createReadiness({ bus, membership, needs, assertDurable }: ReadinessDeps): Readiness {
  const { clock } = bus
  const answers = new Map<string, { readonly word: Word; readonly atMs: number }>()
  let seen: { readonly lacks: readonly Lack[]; readonly atMs: number } | undefined
  let looking: Promise<readonly Lack[]> | undefined
  return { lacks }

  /** READY-2 */
  async function lacks(): Promise<readonly Lack[]> {
    if (seen !== undefined) {
      const ageMsMax = seen.lacks.length === 0 ? READY_AGE_MS_MAX : LACKING_AGE_MS_MAX
      if (clock.monotonic() - seen.atMs < ageMsMax) return [...ownLacks(), ...seen.lacks]
    }
    looking ??= look().finally(() => {
      looking = undefined
    })
    return [...ownLacks(), ...(await looking)]
  }

  /** What costs nothing to know, and is never older than the answer. */
  function ownLacks(): Lack[] {
    if (!bus.isConnected())
      return [{ text: 'no connection to NATS: is a nats-server there, at the address of --nats?' }]
    const self = membership.members().find(({ id }) => id === membership.id)
    if (self?.state === 'LEAVING') return [{ text: 'this gateway is stopping: ask another one' }]
    if (!membership.isConfirmed())
      return [
        {
          text: 'this gateway does not hear its own heartbeats: the bucket of the ring has no leader, or cannot be read',
        },
      ]
    try {
      assertDurable()
    } catch (error) {
      return [{ side: 'writes', text: textOf(error) }]
    }
    return []
  }

  async function look(): Promise<readonly Lack[]> {
    if (!bus.isConnected()) return []
    const atMs = clock.monotonic()
    const asked = needs.map(async (need) => ({ ...need, words: await wordsOf(membership.live(need.role)) }))
    const answered = await Promise.all(asked)
    forgetThoseNotAsked(atMs)
    const found = answered.flatMap(({ role, duty, words }) =>
      duty === 'partitions' ? notHeld(words) : noneAble(duty, role, words),
    )
    seen = { lacks: found, atMs: clock.monotonic() }
    return found
  }

  async function wordsOf(members: readonly Member[]): Promise<ReadonlyMap<Member, Word>> {
    return new Map(await Promise.all(members.map(async (member) => [member, await wordOf(member)] as const)))
  }

  /** READY-3 */
  async function wordOf({ id, incarnation }: Member): Promise<Word> {
    const before = answers.get(incarnation)
    const atMs = clock.monotonic()
    let word: Word
    try {
      word = { kind: 'answered', ...(await ask(bus, readiness, { id }, {})) }
    } catch (error) {
      if (isUnheard(error)) word = GONE
      else if (before?.word.kind === 'answered' && atMs - before.atMs < BELIEVED_MS) return before.word
      else word = SILENT
    }
    answers.set(incarnation, { word, atMs })
    return word
  }

  function forgetThoseNotAsked(sinceMs: number): void {
    for (const [incarnation, { atMs }] of answers) if (sinceMs - atMs > BELIEVED_MS) answers.delete(incarnation)
  }

  function noneAble(side: Side, role: Role, words: ReadonlyMap<Member, Word>): Lack[] {
    if (words.size === 0) return [{ side, text: `no live ${role}: start one (carillon ${role})` }]
    if ([...words.values()].some(isAble)) return []
    return [...words].map(([{ id }, word]) => ({ side, text: `${id} ${sayingOf(word)}` }))
  }

  /** A partition is read from whoever holds it, by its own word; who has not caught up says how far it is. */
  function notHeld(words: ReadonlyMap<Member, Word>): Lack[] {
    const count = membership.readableCount()
    if (count === 0) return [{ text: 'the number of partitions is not known yet: carillon setup makes the logs' }]
    const alive = new Map([...words].filter(([, { kind }]) => kind === 'answered').map(([{ id }, word]) => [id, word]))
    const all = Array.from({ length: count }, (_, partition) => partition)
    const unowned = all.filter((partition) => membership.owners(partition).length === 0)
    const unheld = all.filter(
      (partition) => !unowned.includes(partition) && !membership.holders(partition).some((id) => alive.has(id)),
    )
    const found: Lack[] = []
    if (unowned.length > 0)
      found.push({ text: `no owner for ${someOf(unowned, count)}: start an ingester (carillon ingester)` })
    if (unheld.length > 0) {
      const owners = new Set(unheld.flatMap((partition) => membership.owners(partition)))
      const sayings = [...words].filter(([{ id }]) => owners.has(id)).map(([{ id }, word]) => `${id} ${sayingOf(word)}`)
      found.push({ side: 'reads', text: `nobody holds ${someOf(unheld, count)} yet: ${sayings.join('; ')}` })
    }
    return found
  }
}

function isAble(word: Word): boolean {
  return word.kind === 'answered' && word.lacks.length === 0
}

function sayingOf(word: Word): string {
  switch (word.kind) {
    case 'gone':
      return 'does not take questions: it is starting, or has ended'
    case 'silent':
      return 'does not answer: it is very busy, or hangs'
    case 'answered':
      return word.lacks.length === 0 ? 'is about to say so' : `cannot work yet: ${word.lacks.slice(0, 3).join('; ')}`
  }
}

function someOf(partitions: readonly number[], count: number): string {
  return `${partitions.length} of ${count} partitions: ${partitions.slice(0, NAMED_MAX).join(', ')}`
}

/** Lines for people: what cannot be done, and why. */
export function lacksText(lacks: readonly Lack[]): string {
  return lacks.map(({ side, text }) => `  ${side === undefined ? '' : `${side}: `}${text}\n`).join('')
}
