// The JSON of what a query came to, in parts: each is charged before it is kept, and others have their turn between them.
import type { Breath } from '../../../shared/base/breathing.ts'
import { query } from '../../../shared/contracts/query.ts'
import type { QueryResult } from '../../../shared/promql/engine.ts'
import { renderParts } from '../../../shared/promql/render.ts'
import type { Account } from '../limits/budget.ts'
import { type BodyPart, tooLarge } from './response.ts'

/** Of rendering a character, in units of work. */
const RENDER_WORK = 10

/** @param stats JSON that stands beside the result */
export async function resultBody(
  result: Pick<QueryResult, 'value'>,
  stats: string | undefined,
  account: Pick<Account, 'hold'>,
  breath: Breath,
): Promise<readonly BodyPart[]> {
  const parts: BodyPart[] = []
  let bytes = 0
  for (const text of renderParts(result)) {
    bytes += text.length
    if (bytes > query.replyBytesMax) throw tooLarge()
    account.hold(text.length)
    parts.push(Buffer.from(text))
    if (breath.isDue(RENDER_WORK * text.length)) await breath.breathe()
  }
  if (stats === undefined) return parts
  const last = parts.pop() as Buffer
  return [...parts, last.subarray(0, -1), `,"stats":${stats}}`]
}
