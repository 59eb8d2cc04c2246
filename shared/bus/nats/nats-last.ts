// The newest message on each of some subjects of a stream, and the position up to which that is exact: the direct get `multi_last`. Any
// server that holds a copy answers it, also one that is behind.
import { UnavailableError } from '../../base/errors.ts'
import { type BusHeaders, type BusMessage, statusHeader } from '../port.ts'
import type { NatsLink } from './nats-message.ts'

export const descriptionHeader = 'Nats-Description'

export function statusOf(head: BusHeaders): number {
  return Number(head[statusHeader] ?? 0)
}

/** Nobody answers where JetStream should: no leader, or it is switched off. */
export async function asked<T>(answer: Promise<T>): Promise<T> {
  try {
    return await answer
  } catch (error) {
    if (error instanceof UnavailableError && error.code === 'bus-no-responders') {
      throw new UnavailableError('log-unavailable', 'no JetStream leader answers', { cause: error })
    }
    throw error
  }
}

export type Direct = Pick<BusMessage, 'headers' | 'payload'>

export interface WantedLast {
  /** As the server knows them; wildcards count. */
  readonly multi_last: readonly string[]
  /** As of this position; of all there is unless told. */
  readonly up_to_seq?: number | undefined
}

/** More subjects than a server tells at once (1,024). */
export class TooManySubjectsError extends UnavailableError {}

/** `upToSeq` 0: nothing was found, which proves nothing. Rejects with TooManySubjectsError. */
export async function lastOnSubjects(
  link: NatsLink,
  stream: string,
  wanted: WantedLast,
  timeoutMs: number,
): Promise<{ found: readonly Direct[]; upToSeq: number }> {
  const path = `$JS.API.DIRECT.GET.${stream}`
  const found: Direct[] = []
  let expectedCount = 0
  const question = Buffer.from(JSON.stringify(wanted))
  if (!link.isConnected()) throw new UnavailableError('bus-disconnected', 'not connected')
  const upToSeq = await asked(
    link.mux.collect<number>(
      { subject: path, timeoutMs },
      (inbox) => link.nc.publish(path, question, { reply: `${link.prefix}.${inbox}` }),
      ({ headers, payload }, _status, done) => {
        const status = statusOf(headers)
        if (status === 0) {
          if (found.length === 0) expectedCount = Number(headers['Nats-Num-Pending']) + 1
          found.push({ headers, payload })
          return
        }
        if (status === 404) return done(0) // nothing there, and no position stated
        const text = `${path}: ${status} ${headers[descriptionHeader] ?? ''}`
        if (status === 413) throw new TooManySubjectsError('log-unavailable', text)
        if (status !== 204) {
          throw new UnavailableError('log-unavailable', text)
        }
        // A core answer may lose messages on the way: what came must be as many as were announced, up to the last one.
        const lastSeq = found.at(-1)?.headers['Nats-Sequence']
        const isWhole = found.length === expectedCount && lastSeq === headers['Nats-Last-Sequence']
        if (!isWhole || headers['Nats-Num-Pending'] !== '0') {
          throw new UnavailableError('log-unavailable', `${path}: the answer came in part`)
        }
        done(Number(headers['Nats-UpTo-Sequence'] ?? 0))
      },
    ),
  )
  return { found, upToSeq }
}
