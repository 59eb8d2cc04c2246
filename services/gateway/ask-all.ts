// One question to several members: what those answered that did in time, and who did not.
import type { Member } from '../../shared/membership/membership.ts'

export interface AllAnswers<T> {
  readonly replies: readonly T[]
  readonly unanswered: readonly string[]
}

export async function askAll<T>(
  members: readonly Pick<Member, 'id'>[],
  question: (id: string) => Promise<T>,
): Promise<AllAnswers<T>> {
  const answers = await Promise.allSettled(members.map(({ id }) => question(id)))
  return {
    replies: answers.flatMap((answer) => (answer.status === 'fulfilled' ? [answer.value] : [])),
    unanswered: members.map(({ id }) => id).filter((_, i) => answers[i]!.status === 'rejected'),
  }
}
