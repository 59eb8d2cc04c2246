// The HTTP server: limits on what comes in, one exchange per request, one way of answering and of failing.
//
// Invariants
//   DOOR-1  Every request that was read gets one answer, or its client is gone; 499 is never sent.
//   DOOR-2  An answer that comes before the body was read closes the connection, after a bounded drain: what is unread is never taken for
//       the next request, and the client gets to read the answer.
//   DOOR-3  What no parser understands is answered too (400, 408, 431), and touches no other connection. It is never answered in the middle
//       of another answer: then the connection is cut.
//   DOOR-4  No answer is the HTTP library's own: all have a body that says why, and an error id.
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'
import type { Duplex } from 'node:stream'
import type { Clock } from '../../../shared/base/clock.ts'
import { RefusedError, textOf } from '../../../shared/base/errors.ts'
import type { Random } from '../../../shared/base/random.ts'
import type { Log } from '../../../shared/telemetry/log.ts'
import type { Metrics } from '../../../shared/telemetry/metrics.ts'
import type { Caller } from '../auth/identity.ts'
import type { GatewayConfig } from '../config.ts'
import { AddressBound } from './address-bound.ts'
import type { Route } from './exchange.ts'
import { Failures } from './failures.ts'
import { type EndingFault, lastAnswer, NO_PROXY, parserFault } from './http-rules.ts'
import type { OriginRules } from './origin.ts'
import { Pipelines } from './pipelines.ts'
import { RequestHandler } from './request-handler.ts'
import { RequestMetrics } from './request-metrics.ts'
import { DRAIN_MS_MAX, ResponseWriter } from './response-writer.ts'
import type { Router } from './router.ts'

export interface HttpServerDeps {
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

export class HttpServer {
  readonly #clock: Clock
  readonly #log: Log
  readonly #meters: RequestMetrics
  readonly #handler: RequestHandler
  readonly #pipelines = new Pipelines()
  readonly #server: Server
  #isClosing = false

  constructor(deps: HttpServerDeps) {
    const { config, clock, log } = deps
    const meters = new RequestMetrics(deps.metrics)
    const failures = new Failures(deps)
    const writer = new ResponseWriter({ clock, failures, answerStallMs: config.answerStallMs })
    this.#clock = clock
    this.#log = log
    this.#meters = meters
    this.#handler = new RequestHandler({ ...deps, meters, failures, writer, isClosing: () => this.#isClosing })
    this.#server = this.#wired(configured(config), new AddressBound(config, meters.dropped))
  }

  #wired(server: Server, addresses: AddressBound): Server {
    const serve = (request: IncomingMessage, response: ServerResponse) => this.#serve(request, response, () => {})
    return server
      .on('connection', (socket) => addresses.enter(socket))
      .on('request', serve)
      .on('checkContinue', (request, response) => this.#serve(request, response, () => response.writeContinue()))
      .on('checkExpectation', serve)
      .on('connect', (request) => this.#onConnect(request))
      .on('clientError', (error, socket) => this.#onClientError(error, socket))
      .on('drop', () => this.#meters.dropped.inc())
  }

  open(host: string | undefined, port: number): Promise<void> {
    const server = this.#server
    return new Promise((resolve, reject) => {
      server.once('error', (error: NodeJS.ErrnoException) => {
        const where = `${host ?? '*'}:${port}`
        const why = error.code === 'EADDRINUSE' ? 'another program listens there already' : textOf(error)
        const text = `cannot listen on ${where}: ${why}; choose another --listen`
        reject(new RefusedError('err-carillon-listen', text, { cause: error }))
      })
      server.listen(host === undefined ? { port } : { host, port }, resolve)
    })
  }

  /** host:port, with the port that was really taken. */
  address(): string {
    const { address, family, port } = this.#server.address() as AddressInfo
    return family === 'IPv6' ? `[${address}]:${port}` : `${address}:${port}`
  }

  /** Takes no more connections, gives requests in flight `drainMs`, then cuts them. */
  async close(drainMs: number): Promise<void> {
    this.#isClosing = true
    const server = this.#server
    if (!server.listening) return
    const closed = new Promise<void>((resolve) => server.close(() => resolve()))
    server.closeIdleConnections()
    const timer = this.#clock.after(drainMs, () => server.closeAllConnections())
    await closed
    timer.cancel()
  }

  #serve(request: IncomingMessage, response: ServerResponse, continueBody: () => void): void {
    const signal = this.#pipelines.enter(request, response)
    this.#handler
      .handle(request, response, { signal, continueBody })
      .catch((error: unknown) => {
        this.#log.error({ error }, 'an answer could not be written')
        request.socket.destroy()
      })
      .finally(() => this.#pipelines.leave(request, response))
  }

  #onClientError(error: NodeJS.ErrnoException, socket: Duplex): void {
    const waiting = this.#pipelines.waiting(socket)
    const isAnswering = waiting.length > 1 || waiting.some((response) => response.headersSent)
    if (error.code === 'ECONNRESET' || !socket.writable || isAnswering) {
      socket.destroy()
      return
    }
    this.#endWith(socket, parserFault(error))
  }

  /** The bytes that follow would be the tunnel's: what answers it is the last on its connection. */
  #onConnect({ socket }: IncomingMessage): void {
    if (this.#pipelines.waiting(socket).length > 0)
      socket.destroy() // DOOR-3
    else this.#endWith(socket, NO_PROXY)
  }

  #endWith(socket: Duplex, fault: EndingFault): void {
    this.#meters.count('malformed', String(fault.status))
    this.#log.debug({ status: fault.status, code: fault.code }, 'what came is no request')
    socket.end(lastAnswer(fault))
    this.#clock.after(DRAIN_MS_MAX, () => socket.destroy())
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
    requireHostHeader: false, // assertSpoken, with an error id (DOOR-4)
    noDelay: true,
  })
  server.maxConnections = config.connectionsMax
  return server
}
