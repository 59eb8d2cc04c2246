// One question to several members at once: what those answered that did in time, and who did not, and why.
//
// Invariants
//   ASK-1  All are asked at once and for the same time, at most MEMBERS_MS_MAX: who is silent holds up the others for no longer than that.
//   ASK-2  Each member is either among the answers or among the failures, in the order in which they were named.
//   ASK-3  An answer that did not come is no error of who asks, whatever the reason; a failed assertion is.
import { AssertionError } from '../base/assert.ts'
import { textOf } from '../base/errors.ts'
import { type AskOptions, ask } from '../bus/ask.ts'
import type { Question } from '../bus/contract.ts'
import type { Bus } from '../bus/port.ts'

/** Whatever the contract says, and whoever asks: members are not waited for any longer. */
export const MEMBERS_MS_MAX = 20 * 60_000

export interface MemberAnswer<M, Reply> {
  readonly member: M
  readonly reply: Reply
}

export interface MemberFailure<M> {
  readonly member: M
  readonly error: unknown
  /** Of the error, for people. */
  readonly reason: string
}

export interface MemberAnswers<M, Reply> {
  readonly answers: readonly MemberAnswer<M, Reply>[]
  readonly failures: readonly MemberFailure<M>[]
}

/** `timeoutMs`: the contract's own when not given. */
export async function askMembers<M extends { readonly id: string }, Req, Reply>(
  bus: Bus,
  members: readonly M[],
  contract: Question<'id', Req, Reply>,
  request: Req,
  options: AskOptions = {},
): Promise<MemberAnswers<M, Reply>> {
  const timeoutMs = Math.min(options.timeoutMs ?? contract.timeoutMs, MEMBERS_MS_MAX) // ASK-1
  const outcomes = await Promise.allSettled(
    members.map(({ id }) => ask(bus, contract, { id }, request, { ...options, timeoutMs })),
  )
  const answers: MemberAnswer<M, Reply>[] = []
  const failures: MemberFailure<M>[] = []
  for (const [at, outcome] of outcomes.entries()) {
    const member = members[at] as M
    if (outcome.status === 'fulfilled') answers.push({ member, reply: outcome.value })
    else if (outcome.reason instanceof AssertionError)
      throw outcome.reason // ASK-3
    else failures.push({ member, error: outcome.reason, reason: textOf(outcome.reason) })
  }
  return { answers, failures }
}

/** The ids of those whose answer did not come. */
export function unansweredIn({ failures }: MemberAnswers<{ readonly id: string }, unknown>): string[] {
  return failures.map(({ member }) => member.id)
}
