// The HTTP server: limits on what comes in, one exchange per request, one way of answering and of failing.
//
// Invariants
//   H1  Every request that was read gets one answer, or its client is gone; 499 is never sent.
//   H2  An answer that comes before the body was read closes the connection, after a bounded drain: what is unread is never taken for
//       the next request, and the client gets to read the answer.
//   H3  What no parser understands is answered too (400, 408, 431), and touches no other connection. It is never answered in the middle
//       of another answer: then the connection is cut.
//   H4  No answer is the HTTP library's own: all have a body that says why, and an error id.
import { once } from 'node:events'
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http'
import type { AddressInfo, Socket } from 'node:net'
import type { Duplex } from 'node:stream'
import type { Clock } from '../../../shared/base/clock.ts'
import { RefusedError, textOf } from '../../../shared/base/errors.ts'
import { hex, type Random } from '../../../shared/base/random.ts'
import type { Log } from '../../../shared/telemetry/log.ts'
import { latencyBuckets, type Metrics } from '../../../shared/telemetry/metrics.ts'
import { placeOf } from '../auth/failed-logins.ts'
import type { Caller } from '../auth/identity.ts'
import type { GatewayConfig } from '../config.ts'
import { type Answer, type Exchange, errorBody, type Fault, faultOf, JSON_TYPE, type Route, TEXT } from './exchange.ts'
import { assertSpoken, type EndingFault, lastAnswer, NO_PROXY, parserFault } from './http-rules.ts'
import { notFound } from './not-found.ts'
import { isSafe, type OriginRules } from './origin.ts'
import type { Router } from './router.ts'

const DRAIN_BYTES_MAX = 1024 * 1024
const DRAIN_MS_MAX = 1000
const RETRY_AFTER_S_MAX = 5
const WARNINGS_PER_SECOND_MAX = 10
const ADDRESS_PART_MAX = 0.75

export interface DoorDeps {
  readonly config: GatewayConfig
  readonly clock: Clock
  readonly random: Random
  readonly log: Log
  readonly metrics: Metrics
  readonly router: Router
  readonly origins: OriginRules
  readonly identify: (request: IncomingMessage, route: Route) => Promise<Caller>
  /** Sent with 401. */
  readonly challenge: string | undefined
}

export interface Door {
  open(host: string | undefined, port: number): Promise<void>
  /** host:port, with the port that was really taken. */
  address(): string
  /** Takes no more connections, gives requests in flight `drainMs`, then cuts them. */
  close(drainMs: number): Promise<void>
}

/** The requests of one connection that have no whole answer yet, in their order, with what tells them that the client is gone. */
type Talk = Map<ServerResponse, AbortController>

export function createDoor(deps: DoorDeps): Door {
  const { config, clock, random, log, router, origins } = deps
  const meters = createMeters(deps.metrics)
  const talks = new WeakMap<Duplex, Talk>()
  const warn = createWarner(log, clock)
  let isClosing = false
  const server = configured(config)
  server.on('connection', createPlaces(config, meters.dropped))
  server.on('request', (request, response) => serve(request, response, () => {}))
  server.on('checkContinue', (request, response) => serve(request, response, () => response.writeContinue()))
  server.on('checkExpectation', (request, response) => serve(request, response, () => {}))
  server.on('connect', onConnect)
  server.on('clientError', onClientError)
  server.on('drop', () => meters.dropped.inc())
  return { open: (host, port) => listen(server, host, port), address: () => addressOf(server), close }

  function serve(request: IncomingMessage, response: ServerResponse, continueBody: () => void): void {
    const talk = talkOn(request.socket)
    const gone = new AbortController()
    talk.set(response, gone)
    converse(request, response, { signal: gone.signal, continueBody })
      .catch((error: unknown) => {
        log.error({ error }, 'an answer could not be written')
        request.socket.destroy()
      })
      .finally(() => {
        talk.delete(response)
        const [next] = talk.keys()
        if (next !== undefined && !next.headersSent) request.socket.setTimeout(0) // it is being worked on, not stalled
      })
  }

  function talkOn(socket: Duplex): Talk {
    const known = talks.get(socket)
    if (known !== undefined) return known
    const talk: Talk = new Map()
    talks.set(socket, talk)
    socket.once('close', () => {
      for (const [response, gone] of talk) {
        if (!response.writableFinished) gone.abort(new Error('the client hung up'))
      }
    })
    return talk
  }

  async function converse(
    request: IncomingMessage,
    response: ServerResponse,
    { signal, continueBody }: { signal: AbortSignal; continueBody: () => void },
  ): Promise<void> {
    const startMs = clock.monotonic()
    const { path, search } = target(request.url ?? '')
    const found = router.find(path)
    const method = request.method ?? ''
    const route = found?.routes.find(({ methods }) => methods.includes(method === 'HEAD' ? 'GET' : method))
    const requestId = requestIdOf(request)
    const releases: (() => void)[] = []
    const holdUntilAnswered = (release: () => void) => void releases.push(release)
    const meter = meters.begin(route?.name ?? (found ? 'method' : 'unknown'))
    let answer: Answer
    try {
      assertSpoken(request)
      origins.assertWelcome(request, route)
      if (found === undefined) throw notFound(path)
      if (route === undefined) answer = otherMethod(found.routes, method)
      else {
        const caller = await deps.identify(request, route)
        const remoteAddress = request.socket.remoteAddress ?? ''
        const { params } = found
        const exchange: Exchange = {
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
        answer = await route.answer(exchange)
        noteOrder(exchange, route, answer.status)
      }
    } catch (error) {
      answer = failed(error, { requestId, route: route ?? found?.routes[0], path, isGone: signal.aborted })
    }
    let isSent = false
    try {
      isSent = await send(request, response, withCommon(answer, request, route ?? found?.routes[0], requestId), signal)
    } finally {
      for (const release of releases) release()
      meter.end(isSent ? String(answer.status) : 'gone', clock.monotonic() - startMs)
    }
  }

  /** What administrators did, by whom. Failures stand in the log as all do. */
  function noteOrder(
    { request: { method = '' }, who, requestId, search }: Exchange,
    route: Route,
    status: number,
  ): void {
    if (isSafe(method) || (route.access !== 'admin' && route.isOpenToAdmin !== true)) return
    log.info(
      { who, requestId, route: route.name, method, path: route.path, search: search.slice(0, 200), status },
      'an order',
    )
  }

  function requestIdOf({ headers }: IncomingMessage): string {
    const given = headers['x-request-id']
    return typeof given === 'string' && /^[A-Za-z0-9._:/+=-]{1,128}$/.test(given) ? given : hex(random.bytes(8))
  }

  function failed(
    error: unknown,
    { requestId, route, path, isGone }: { requestId: string; route: Route | undefined; path: string; isGone: boolean },
  ): Answer {
    const fault = faultOf(error)
    const facts = { requestId, route: route?.name, path: path.slice(0, 200), status: fault.status, code: fault.code }
    if (isGone) log.debug(facts, 'the client hung up')
    else if (fault.code === 'err-carillon-internal') log.error({ ...facts, error }, 'a request met a bug')
    else if (fault.status >= 500) warn({ ...facts, reason: fault.text }, 'a request could not be served')
    else log.debug({ ...facts, reason: fault.text }, 'a request was refused')
    return faultAnswer(fault, route?.errors ?? 'text')
  }

  function faultAnswer(fault: Fault, shape: 'text' | 'json'): Answer {
    const headers: Record<string, string> = {
      ...fault.headers,
      'Content-Type': shape === 'json' ? JSON_TYPE : TEXT,
      'X-Carillon-Error-Id': fault.code,
    }
    if (fault.retryAfterS !== undefined) {
      const waitS = fault.retryAfterS > 0 ? Math.ceil(fault.retryAfterS) : 1 + random.below(RETRY_AFTER_S_MAX)
      headers['Retry-After'] = String(waitS)
    }
    if (fault.status === 401 && deps.challenge !== undefined) headers['WWW-Authenticate'] = deps.challenge
    return { status: fault.status, headers, body: errorBody(fault, shape) }
  }

  function withCommon(answer: Answer, request: IncomingMessage, route: Route | undefined, requestId: string): Answer {
    const headers: Record<string, string> = {
      ...route?.headers,
      'X-Request-Id': requestId,
      'X-Content-Type-Options': 'nosniff',
      ...(route?.hasCors ? origins.corsOf(request) : {}),
      ...answer.headers,
    }
    if (isClosing) headers['Connection'] = 'close'
    return { ...answer, headers }
  }

  /** Whether the whole answer was handed to the system. */
  async function send(
    request: IncomingMessage,
    response: ServerResponse,
    { status, headers, body = '', stream }: Answer,
    signal: AbortSignal,
  ): Promise<boolean> {
    if (signal.aborted || request.socket.destroyed) return false
    const length =
      stream !== undefined ? stream.length : typeof body === 'string' ? Buffer.byteLength(body) : body.length
    const isUnread = !request.complete // H2
    const watchReader = () => request.socket.setTimeout(config.answerStallMs) // whoever does not read is cut
    if (response.socket === null)
      response.once('socket', watchReader) // an earlier request of this connection is still at work
    else watchReader()
    response.writeHead(status, {
      ...headers,
      ...(status === 204 || length === undefined ? {} : { 'Content-Length': length }),
      ...(isUnread ? { Connection: 'close' } : {}),
    })
    if (stream !== undefined && request.method !== 'HEAD') await pour(stream.chunks, response, signal)
    else if (isUnread && request.method !== 'HEAD') {
      if (body.length > 0) response.write(body)
      else response.flushHeaders()
      await drained(request)
      response.end()
    } else response.end(body)
    return await new Promise((resolve) => {
      if (response.writableFinished || signal.aborted) return resolve(response.writableFinished)
      response.once('finish', () => resolve(true))
      signal.addEventListener('abort', () => resolve(response.writableFinished), { once: true })
    })
  }

  /** H3: what fails halfway ends the connection. */
  async function pour(chunks: AsyncIterable<Uint8Array>, response: ServerResponse, signal: AbortSignal): Promise<void> {
    try {
      for await (const chunk of chunks) {
        signal.throwIfAborted()
        if (!response.write(chunk)) await once(response, 'drain', { signal })
      }
      response.end()
    } catch (error) {
      if (!signal.aborted) warn({ reason: textOf(error) }, 'an answer broke off')
      response.destroy()
    }
  }

  function drained(request: IncomingMessage): Promise<void> {
    if (request.complete || request.destroyed) return Promise.resolve()
    return new Promise((resolve) => {
      let count = 0
      const timer = clock.after(DRAIN_MS_MAX, done)
      function done(): void {
        timer.cancel()
        request.pause()
        resolve()
      }
      request.on('data', (chunk: Buffer) => {
        count += chunk.length
        if (count > DRAIN_BYTES_MAX) done()
      })
      request.once('end', done).once('close', done).once('error', done).resume()
    })
  }

  function onClientError(error: NodeJS.ErrnoException, socket: Duplex): void {
    const waiting = [...(talks.get(socket)?.keys() ?? [])]
    const isAnswering = waiting.length > 1 || waiting.some((response) => response.headersSent)
    if (error.code === 'ECONNRESET' || !socket.writable || isAnswering) {
      socket.destroy()
      return
    }
    endWith(socket, parserFault(error))
  }

  /** The bytes that follow would be the tunnel's: what answers it is the last on its connection. */
  function onConnect({ socket }: IncomingMessage): void {
    if (talkOn(socket).size > 0)
      socket.destroy() // H3
    else endWith(socket, NO_PROXY)
  }

  function endWith(socket: Duplex, fault: EndingFault): void {
    meters.count('malformed', String(fault.status))
    log.debug({ status: fault.status, code: fault.code }, 'what came is no request')
    socket.end(lastAnswer(fault))
    clock.after(DRAIN_MS_MAX, () => socket.destroy())
  }

  async function close(drainMs: number): Promise<void> {
    isClosing = true
    if (!server.listening) return
    const closed = new Promise<void>((resolve) => server.close(() => resolve()))
    server.closeIdleConnections()
    const timer = clock.after(drainMs, () => server.closeAllConnections())
    await closed
    timer.cancel()
  }
}

function configured(config: GatewayConfig): Server {
  const server = createServer({
    maxHeaderSize: config.headerBytesMax,
    headersTimeout: Math.min(config.headersTimeoutMs, config.requestTimeoutMs),
    requestTimeout: config.requestTimeoutMs,
    keepAliveTimeout: config.keepAliveTimeoutMs,
    connectionsCheckingInterval: Math.max(10, Math.min(1000, config.headersTimeoutMs / 4)),
    insecureHTTPParser: false,
    requireHostHeader: false, // assertSpoken, with an error id (H4)
    noDelay: true,
  })
  server.maxConnections = config.connectionsMax
  return server
}

/** One address cannot hold all connections: those beyond its part are closed at once. */
function createPlaces(config: GatewayConfig, dropped: { inc(): void }): (socket: Socket) => void {
  const placeMax = Math.min(config.addressConnectionsMax, Math.ceil(config.connectionsMax * ADDRESS_PART_MAX))
  const counts = new Map<string, number>() // bounded by connectionsMax
  return (socket) => {
    const place = placeOf(socket.remoteAddress ?? '')
    const count = counts.get(place) ?? 0
    if (count >= placeMax) {
      dropped.inc()
      socket.destroy()
      return
    }
    counts.set(place, count + 1)
    socket.once('close', () => {
      const left = counts.get(place)! - 1
      if (left === 0) counts.delete(place)
      else counts.set(place, left)
    })
  }
}

function listen(server: Server, host: string | undefined, port: number): Promise<void> {
  return new Promise((resolve, reject) => {
    server.once('error', (error: NodeJS.ErrnoException) => {
      const where = `${host ?? '*'}:${port}`
      const why = error.code === 'EADDRINUSE' ? 'another program listens there already' : textOf(error)
      reject(
        new RefusedError('err-carillon-listen', `cannot listen on ${where}: ${why}; choose another --listen`, {
          cause: error,
        }),
      )
    })
    server.listen(host === undefined ? { port } : { host, port }, resolve)
  })
}

function addressOf(server: Server): string {
  const { address, family, port } = server.address() as AddressInfo
  return family === 'IPv6' ? `[${address}]:${port}` : `${address}:${port}`
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
  const fault = { status: 405, code: 'err-carillon-method', text: `method not allowed, use ${allowed}` }
  const headers = { Allow: allowed, 'Content-Type': TEXT, 'X-Carillon-Error-Id': fault.code }
  return { status: 405, headers, body: errorBody(fault, 'text') }
}

/** At most WARNINGS_PER_SECOND_MAX lines a second: when everything fails, the log must not be what fails next. */
function createWarner(log: Log, clock: Clock): (facts: object, text: string) => void {
  let secondEndsMs = 0
  let count = 0
  return (facts, text) => {
    const now = clock.monotonic()
    if (now >= secondEndsMs) {
      const leftOut = count - WARNINGS_PER_SECOND_MAX
      if (leftOut > 0) log.warn({ leftOut }, 'more requests failed than there are lines')
      secondEndsMs = now + 1000
      count = 0
    }
    if (++count <= WARNINGS_PER_SECOND_MAX) log.warn(facts, text)
  }
}

function createMeters(metrics: Metrics) {
  const labels = ['route', 'code']
  const requests = metrics.counter('carillon_gateway_requests_total', 'HTTP requests by route and status.', labels)
  const seconds = metrics.histogram(
    'carillon_gateway_request_duration_seconds',
    'Time from the end of the headers to the end of the answer.',
    latencyBuckets,
    ['route'],
  )
  const inFlight = metrics.gauge('carillon_gateway_inflight_requests', 'HTTP requests being answered.', ['route'])
  const dropped = metrics.counter(
    'carillon_gateway_dropped_connections_total',
    'Connections beyond --connections-max or --address-connections-max.',
  )
  return {
    dropped,
    count: (route: string, code: string) => requests.with({ route, code }).inc(),
    begin(route: string) {
      inFlight.with({ route }).inc()
      return {
        end(code: string, durationMs: number) {
          inFlight.with({ route }).dec()
          requests.with({ route, code }).inc()
          seconds.with({ route }).observe(durationMs / 1000)
        },
      }
    },
  }
}
