// write: what a tenant's samples travel by.
//
// push         question    push.{tenant}                 any distributor takes in one remote_write body
// pushTo       addressed   distributor.{id}.push.{tenant} that distributor takes it in: a sender keeps meeting the same one, whose
//                                                         dictionary knows its series
// Delivery: request and reply. A body larger than one message travels in parts.
// Errors: RefusedError when the body as a whole is refused (400, 413, 429); UnavailableError when it may be sent again (503).
// A push that was taken in partly (some series refused) is answered with a reply that carries `refusal`. What an election left out
// counts as done, and stands in `dropped`.
import type { RefusedCode } from '../base/error-codes.ts'
import { RefusedError } from '../base/errors.ts'
import { addressed, type Codec, cbor, question } from '../bus/contract.ts'

export const PUSH_BYTES_MAX = 128 * 1024 * 1024

export interface PushRequest {
  /** remote_write protocol: 1 (`prometheus.WriteRequest`) or 2 (`io.prometheus.write.v2.Request`). */
  readonly protocol: 1 | 2
  /** The snappy-compressed body as it came. */
  readonly body: Uint8Array
}

export interface PushReply {
  readonly samplesWritten: number
  readonly histogramsWritten: number
  readonly exemplarsWritten: number
  /** Left out because their replica is not elected, or because they belong to a former one's time: nothing to send again (LOG-22). */
  readonly dropped?: { readonly samples: number; readonly histograms: number; readonly exemplars: number }
  /** The first refusal, when something in the body was refused. Everything else is stored. */
  readonly refusal?: PushRefusal
  /** Where the body ended in the logs: wait for these to read what was written (LOG-20). */
  readonly position: readonly LogPosition[]
}

export interface PushRefusal {
  /** 400, or 429 when all that was refused was refused by a limit that time heals. */
  readonly status: number
  readonly code: RefusedCode
  readonly text: string
  readonly retryAfterS?: number
}

export interface LogPosition {
  readonly partition: number
  /** Which life of the log `seq` counts in. */
  readonly incarnation: string
  readonly seq: number
}

/** One byte of protocol, then the body: no object around a large buffer. */
const pushRequest: Codec<PushRequest> = {
  encode({ protocol, body }) {
    const bytes = Buffer.allocUnsafe(body.length + 1)
    bytes[0] = protocol
    bytes.set(body, 1)
    return bytes
  },
  decode(bytes) {
    const protocol = bytes[0]
    if (protocol !== 1 && protocol !== 2)
      throw new RefusedError('err-carillon-bad-message', `push: unknown protocol ${protocol}`)
    return { protocol, body: bytes.subarray(1) }
  },
}

const shared = {
  request: pushRequest,
  reply: cbor<PushReply>(),
  timeoutMs: 30_000,
  requestBytesMax: PUSH_BYTES_MAX,
  replyBytesMax: 64 * 1024,
}

export const push = question({
  name: 'push',
  subject: 'push.{tenant}',
  servedBy: 'distributor',
  askedBy: ['gateway'],
  ...shared,
  queue: 'distributor',
  doc: 'take in one remote_write body',
})

export const pushTo = addressed({
  name: 'pushTo',
  subject: 'distributor.{id}.push.{tenant}',
  servedBy: 'distributor',
  askedBy: ['gateway'],
  ...shared,
  doc: 'take in one remote_write body, by the distributor that knows this sender',
})

/** `0/1f2e3d4c:812,1/…:90`: the form of a position in HTTP headers. */
export function formatPosition(position: readonly LogPosition[]): string {
  return position.map(({ partition, incarnation, seq }) => `${partition}/${incarnation}:${seq}`).join(',')
}

export function parsePosition(text: string): LogPosition[] {
  if (text.length > 64 * 1024)
    throw new RefusedError('err-carillon-position', 'log position is longer than 65536 characters')
  return text.split(',').map((part) => {
    const match = /^(\d{1,5})\/([0-9A-Za-z.:@_-]{1,64}):(\d{1,15})$/.exec(part.trim())
    if (!match) {
      throw new RefusedError(
        'err-carillon-position',
        `log position "${part.slice(0, 50)}" is not partition/incarnation:sequence`,
      )
    }
    return { partition: Number(match[1]), incarnation: match[2]!, seq: Number(match[3]) }
  })
}
