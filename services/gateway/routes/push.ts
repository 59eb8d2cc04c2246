// remote_write 1.0 and 2.0: checks what HTTP says about a body, and its declared size; the body itself travels on untouched.
//
// Invariants
//   PUSH-1  Success is answered only with a distributor's reply in hand, which it gives only for what is stored.
//   PUSH-2  A sender keeps meeting the same distributor while that lives: it knows the sender's series.
//   PUSH-3  Nothing is sent twice by the gateway unless nobody can have received it (no responders); retrying is the sender's.
//   PUSH-4  A push does not outlive its distributor: when that is gone, or is another process by now, the sender is told at once.
//   PUSH-5  Nor is an answer waited for that was lost on the way, in a nats-server that hangs: a distributor says every second that it is at
//       work on a push. One that is silent is passed over for a while, since the sender comes again at once.
//   PUSH-6  A push that ends its distributor is not asked for again: whatever is answered 5xx comes back at once, and would end the next one.

import { RefusedError, UnavailableError } from '../../../shared/base/errors.ts'
import type { Random } from '../../../shared/base/random.ts'
import { ask } from '../../../shared/bus/ask.ts'
import { bugCode } from '../../../shared/bus/failure.ts'
import type { Bus } from '../../../shared/bus/port.ts'
import { formatPosition, type PushReply, type PushRequest, push, pushTo } from '../../../shared/contracts/write.ts'
import type { Member, Membership } from '../../../shared/membership/membership.ts'
import { encodeTenant } from '../../../shared/model/tenant.ts'
import { pickFor } from '../../../shared/ring/owners.ts'
import type { Counter } from '../../../shared/telemetry/metrics.ts'
import { declaredLength } from '../../../shared/wire/snappy.ts'
import type { GatewayConfig } from '../config.ts'
import { readBody } from '../http/body.ts'
import { type Answer, type Exchange, isSilence, isUnheard, type Route, TEXT, textWithId } from '../http/exchange.ts'
import type { Load } from '../http/in-flight.ts'
import { checkEncoding, protocolOf } from './push-types.ts'

const WRITTEN = {
  samples: 'X-Prometheus-Remote-Write-Samples-Written',
  histograms: 'X-Prometheus-Remote-Write-Histograms-Written',
  exemplars: 'X-Prometheus-Remote-Write-Exemplars-Written',
}

/** A v2 sender that misses these takes the batch for lost, so failures carry them too. */
const nothingWritten = { [WRITTEN.samples]: '0', [WRITTEN.histograms]: '0', [WRITTEN.exemplars]: '0' }

const SILENCE_MS_MAX = 3_000
/** A client leaves a server that hangs after 4 to 6 s. */
const PASSED_OVER_MS = 8_000

/** The distributor that a push was handed to. */
type Taker = Pick<Member, 'id' | 'incarnation'>

export interface PushDeps {
  readonly bus: Bus
  readonly random: Random
  readonly membership: Membership
  readonly config: GatewayConfig
  readonly load: Load
  readonly bytesTaken: Counter
  /** Throws when the server's durability is not the one required. */
  readonly assertDurable: () => void
}

export function pushRoutes(deps: PushDeps): readonly Route[] {
  const { bus, membership, config, load } = deps
  const underWay = new Map<AbortController, Taker>()
  /** Distributors that were silent, and until when they are passed over. */
  const silent = new Map<string, number>()
  membership.onChange(leaveTheGone)
  return ['/api/v1/push', '/api/v1/write', '/api/prom/push'].map((path) => ({
    name: 'push',
    methods: ['POST'],
    path,
    access: 'write',
    errors: 'text',
    headers: nothingWritten,
    answer,
  }))

  async function answer(exchange: Exchange): Promise<Answer> {
    const protocol = protocolOf(exchange.request.headers['content-type'])
    checkEncoding(exchange.request.headers['content-encoding'])
    deps.assertDurable()
    const lease = load.enter(exchange.tenant)
    try {
      const body = await readBody(exchange, { bytesMax: config.bodyBytesMax, onBytes: lease.grow })
      deps.bytesTaken.inc(body.length)
      checkDeclaredLength(body, config.decodedBytesMax)
      return answerOf(await forward(exchange, { protocol, body }).catch(notAgain))
    } finally {
      lease.end()
    }
  }

  async function forward(
    { tenant, remoteAddress, requestId, signal }: Exchange,
    request: PushRequest,
  ): Promise<PushReply> {
    const options = { requestId, signal, silenceMs: SILENCE_MS_MAX }
    const token = encodeTenant(tenant)
    const live = heardOf(membership.live('distributor'))
    const id = pickFor(
      `${tenant} ${remoteAddress}`,
      live.map((member) => member.id),
    ) // PUSH-2
    const taker = live.find((member) => member.id === id)
    if (taker !== undefined) {
      const gone = new AbortController()
      underWay.set(gone, taker)
      try {
        const untilGone = { ...options, signal: AbortSignal.any([signal, gone.signal]) }
        return await ask(bus, pushTo, { id: taker.id, tenant: token }, request, untilGone)
      } catch (error) {
        if (isSilence(error)) throw passOver(taker, error)
        if (!isUnheard(error)) throw error // PUSH-3
      } finally {
        underWay.delete(gone)
      }
    }
    try {
      return await ask(bus, push, { tenant: token }, request, options)
    } catch (error) {
      if (!isUnheard(error)) throw error
      throw new UnavailableError('err-carillon-no-distributor', 'no distributor takes writes at the moment', {
        cause: error,
      })
    }
  }

  /** PUSH-5 */
  function heardOf(live: readonly Member[]): readonly Member[] {
    const nowMs = bus.clock.monotonic()
    for (const [incarnation, untilMs] of silent) if (untilMs <= nowMs) silent.delete(incarnation)
    if (silent.size === 0) return live
    const heard = live.filter(({ incarnation }) => !silent.has(incarnation))
    return heard.length > 0 ? heard : live
  }

  function passOver({ id, incarnation }: Taker, cause: unknown): UnavailableError {
    silent.set(incarnation, bus.clock.monotonic() + PASSED_OVER_MS)
    const text = `${id}, which was handed this write, does not say that it is at work on it; what became of the write is not known`
    return new UnavailableError('err-carillon-distributor-silent', text, { cause })
  }

  /** PUSH-4 */
  function leaveTheGone(): void {
    if (underWay.size === 0) return
    const healthy = membership.members().filter(({ isHealthy }) => isHealthy) // one that leaves answers what it has taken
    const alive = new Set(healthy.map(({ incarnation }) => incarnation))
    for (const [gone, { id, incarnation }] of underWay) {
      if (alive.has(incarnation)) continue
      const text = `${id}, which had taken this write, is gone; what became of the write is not known`
      gone.abort(new UnavailableError('err-carillon-distributor-gone', text))
    }
  }
}

/** PUSH-6 */
function notAgain(error: unknown): never {
  if (!(error instanceof RefusedError) || error.code !== bugCode) throw error
  const text = `${error.message}; a bug of Carillon, please report it. Nothing of this request is known to be stored`
  throw new RefusedError(bugCode, text, { status: 400, cause: error })
}

/** What an election left out counts as written: nothing of it is to be sent again, and a v2 sender would take it for lost. */
function answerOf({
  samplesWritten,
  histogramsWritten,
  exemplarsWritten,
  dropped,
  refusal,
  position,
}: PushReply): Answer {
  const headers: Record<string, string> = {
    [WRITTEN.samples]: String(samplesWritten + (dropped?.samples ?? 0)),
    [WRITTEN.histograms]: String(histogramsWritten + (dropped?.histograms ?? 0)),
    [WRITTEN.exemplars]: String(exemplarsWritten + (dropped?.exemplars ?? 0)),
  }
  if (position.length > 0) headers['X-Carillon-Log-Position'] = formatPosition(position)
  if (dropped !== undefined) headers['X-Carillon-Ha-Dropped'] = String(dropped.samples + dropped.histograms)
  if (refusal === undefined) {
    if (dropped === undefined || samplesWritten + histogramsWritten > 0) return { status: 204, headers }
    headers['Content-Type'] = TEXT
    return { status: 202, headers, body: 'replica is not the elected one of its cluster: its samples are dropped\n' }
  }
  headers['Content-Type'] = TEXT
  headers['X-Carillon-Error-Id'] = refusal.code
  if (refusal.status === 429) headers['Retry-After'] = String(Math.max(1, Math.ceil(refusal.retryAfterS ?? 1)))
  const written = `${samplesWritten} samples, ${histogramsWritten} histograms and ${exemplarsWritten} exemplars of this request are stored`
  return { status: refusal.status, headers, body: `${textWithId(refusal.text, refusal.code)}; ${written}\n` }
}

function checkDeclaredLength(body: Uint8Array, lengthMax: number): void {
  const length = declaredLength(body)
  if (length <= lengthMax) return
  throw new RefusedError('err-carillon-snappy', `snappy: decoded length ${length} exceeds limit ${lengthMax}`)
}
