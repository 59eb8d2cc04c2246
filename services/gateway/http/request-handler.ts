// One request from its headers to the end of its answer: its route is found, its caller named, the route asked, the answer written (DOOR-1, DOOR-4).
import type { IncomingMessage, ServerResponse } from 'node:http'
import type { Clock } from '../../../shared/base/clock.ts'
import { hex, type Random } from '../../../shared/base/random.ts'
import type { Log } from '../../../shared/telemetry/log.ts'
import type { Caller } from '../auth/identity.ts'
import { type Answer, type Exchange, errorBody, type Route, TEXT } from './exchange.ts'
import type { Failures } from './failures.ts'
import { assertSpoken } from './http-rules.ts'
import { notFound } from './not-found.ts'
import { isSafe, type OriginRules } from './origin.ts'
import type { RequestMetrics } from './request-metrics.ts'
import type { ResponseWriter } from './response-writer.ts'
import type { Found, Router } from './router.ts'

export interface RequestHandlerDeps {
  readonly clock: Clock
  readonly random: Random
  readonly log: Log
  readonly router: Router
  readonly origins: OriginRules
  readonly identify: (request: IncomingMessage, route: Route) => Promise<Caller>
  readonly meters: RequestMetrics
  readonly failures: Failures
  readonly writer: ResponseWriter
  /** Whether answers end their connections. */
  readonly isClosing: () => boolean
}

interface Given {
  /** Aborts when the client hangs up. */
  readonly signal: AbortSignal
  readonly continueBody: () => void
}

/** A request as far as its headers tell. */
interface Call extends Given {
  readonly request: IncomingMessage
  readonly method: string
  readonly path: string
  readonly search: string
  readonly requestId: string
  /** undefined: nothing stands at its path. */
  readonly found: Found | undefined
  /** undefined: nothing there has its method. */
  readonly route: Route | undefined
  /** Called once the answer has left, or the client is gone. */
  readonly releases: (() => void)[]
}

export class RequestHandler {
  readonly #deps: RequestHandlerDeps

  constructor(deps: RequestHandlerDeps) {
    this.#deps = deps
  }

  async handle(request: IncomingMessage, response: ServerResponse, given: Given): Promise<void> {
    const { clock, meters, writer } = this.#deps
    const startMs = clock.monotonic()
    const call = this.#callOf(request, given)
    const label = call.route?.name ?? (call.found ? 'method' : 'unknown')
    meters.begin(label)
    const answer = await this.#answerTo(call)
    let isSent = false
    try {
      isSent = await writer.send(request, response, this.#withCommon(answer, call), given.signal)
    } finally {
      for (const release of call.releases) release()
      meters.end(label, isSent ? String(answer.status) : 'gone', clock.monotonic() - startMs)
    }
  }

  #callOf(request: IncomingMessage, given: Given): Call {
    const { path, search } = target(request.url ?? '')
    const found = this.#deps.router.find(path)
    const method = request.method ?? ''
    const route = found?.routes.find(({ methods }) => methods.includes(method === 'HEAD' ? 'GET' : method))
    return {
      ...given,
      request,
      method,
      path,
      search,
      found,
      route,
      requestId: this.#requestIdOf(request),
      releases: [],
    }
  }

  #requestIdOf({ headers }: IncomingMessage): string {
    const given = headers['x-request-id']
    if (typeof given === 'string' && /^[A-Za-z0-9._:/+=-]{1,128}$/.test(given)) return given
    return hex(this.#deps.random.bytes(8))
  }

  async #answerTo(call: Call): Promise<Answer> {
    const { request, found, route, path, method, requestId, signal } = call
    try {
      assertSpoken(request)
      this.#deps.origins.assertWelcome(request, route)
      if (found === undefined) throw notFound(path)
      if (route === undefined) return otherMethod(found.routes, method)
      const exchange = await this.#exchangeOf(call, route, found)
      const answer = await route.answer(exchange)
      this.#noteOrder(exchange, route, answer.status)
      return answer
    } catch (error) {
      const facts = { requestId, route: route ?? found?.routes[0], path, isGone: signal.aborted }
      return this.#deps.failures.answer(error, facts)
    }
  }

  async #exchangeOf(call: Call, route: Route, { params }: Found): Promise<Exchange> {
    const { request, search, requestId, signal, continueBody, releases } = call
    const caller = await this.#deps.identify(request, route)
    const remoteAddress = request.socket.remoteAddress ?? ''
    const holdUntilAnswered = (release: () => void) => void releases.push(release)
    return {
      request,
      params,
      search,
      requestId,
      ...caller,
      remoteAddress,
      signal,
      continueBody,
      holdUntilAnswered,
    }
  }

  /** What administrators did, by whom. Failures stand in the log as all do. */
  #noteOrder({ request: { method = '' }, who, requestId, search }: Exchange, route: Route, status: number): void {
    if (isSafe(method) || (route.access !== 'admin' && route.isOpenToAdmin !== true)) return
    this.#deps.log.info(
      { who, requestId, route: route.name, method, path: route.path, search: search.slice(0, 200), status },
      'an order',
    )
  }

  #withCommon(answer: Answer, { request, requestId, route: own, found }: Call): Answer {
    const route = own ?? found?.routes[0]
    const headers: Record<string, string> = {
      ...route?.headers,
      'X-Request-Id': requestId,
      'X-Content-Type-Options': 'nosniff',
      ...(route?.hasCors ? this.#deps.origins.corsOf(request) : {}),
      ...answer.headers,
    }
    if (this.#deps.isClosing()) headers['Connection'] = 'close'
    return { ...answer, headers }
  }
}

/** Path and search of a request line, as they came; of the absolute form only what follows the authority. */
function target(url: string): { path: string; search: string } {
  const origin = /^https?:\/\/[^/?#]*/i.exec(url)?.[0] ?? ''
  const rest = url.slice(origin.length)
  const at = rest.indexOf('?')
  return at < 0 ? { path: rest, search: '' } : { path: rest.slice(0, at), search: rest.slice(at + 1) }
}

function otherMethod(routes: readonly Route[], method: string): Answer {
  if (method === 'OPTIONS' && routes.some((route) => route.hasCors)) return { status: 204 }
  const allowed = [...new Set(routes.flatMap((route) => route.methods))].join(', ')
  const fault = { status: 405, code: 'err-carillon-method' as const, text: `method not allowed, use ${allowed}` }
  const headers = { Allow: allowed, 'Content-Type': TEXT, 'X-Carillon-Error-Id': fault.code }
  return { status: 405, headers, body: errorBody(fault, 'text') }
}
