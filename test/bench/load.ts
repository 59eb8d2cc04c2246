// The load generator, a process of its own so that its CPU is nobody's: sends bodies over keep-alive connections, one request under
// way on each, and tells how long each acknowledgement took. Plain sockets: it shares the machine with what it measures.
import fs from 'node:fs'
import net from 'node:net'
import { setTimeout as sleep } from 'node:timers/promises'
import type { Body } from './workload.ts'

export interface LoadOrder {
  readonly url: string
  readonly file: string
  readonly connectionCount: number
  readonly bodies: readonly Body[]
  /** Samples a second over all connections; 0 is as fast as they are taken. */
  readonly rate: number
}

export interface LoadResult {
  readonly samples: number
  readonly requests: number
  /** Requests that were answered 429 or 5xx and sent again. */
  readonly retries: number
  readonly seconds: number
  /** At a fixed rate: the longest that a request began after its time. */
  readonly behindMs: number
  /** Milliseconds from the first byte sent to the whole answer, rising. */
  readonly latencies: number[]
}

const RETRIES_MAX = 200
const RETRY_MS = 100
const ANSWER_MS_MAX = 30_000

interface Progress {
  samples: number
  retries: number
  behindMs: number
  readonly latencies: number[]
}

async function run({ url, file, connectionCount, bodies, rate }: LoadOrder): Promise<LoadResult> {
  const progress: Progress = { samples: 0, retries: 0, behindMs: 0, latencies: [] }
  const bytes = fs.openSync(file, 'r')
  const startMs = performance.now()
  let samplesBefore = 0
  const due = bodies.map(({ samples }) => {
    const at = rate === 0 ? 0 : startMs + (samplesBefore / rate) * 1000
    samplesBefore += samples
    return at
  })
  const send = async (connection: number): Promise<void> => {
    const sender = await Sender.open(new URL(url))
    for (const [i, body] of bodies.entries()) {
      if (body.connection !== connection) continue
      const payload = Buffer.allocUnsafe(body.length)
      fs.readSync(bytes, payload, 0, body.length, body.offset)
      const waitMs = due[i]! - performance.now()
      if (waitMs > 0) await sleep(waitMs)
      else if (rate > 0) progress.behindMs = Math.max(progress.behindMs, -waitMs)
      await deliver(sender, payload, progress)
      progress.samples += body.samples
    }
    sender.close()
  }
  await Promise.all(Array.from({ length: connectionCount }, (_, connection) => send(connection)))
  fs.closeSync(bytes)
  const { samples, retries, behindMs, latencies } = progress
  const seconds = (performance.now() - startMs) / 1000
  return {
    samples,
    requests: latencies.length,
    retries,
    seconds,
    behindMs,
    latencies: latencies.sort((a, b) => a - b),
  }
}

async function deliver(sender: Sender, payload: Buffer, progress: Progress): Promise<void> {
  for (let attempt = 0; attempt < RETRIES_MAX; attempt++) {
    const sentMs = performance.now()
    const { status, text } = await sender.post(payload)
    if (status >= 200 && status < 300) {
      progress.latencies.push(performance.now() - sentMs)
      return
    }
    if (status !== 429 && status < 500) throw new Error(`a body was refused with ${status}: ${text}`)
    progress.retries++
    await sleep(RETRY_MS)
  }
  throw new Error(`a body was not taken in ${RETRIES_MAX} attempts`)
}

/** One keep-alive connection with one request under way at most. */
class Sender {
  private readonly socket: net.Socket
  private readonly head: string
  private received = ''
  private answered: ((answer: { status: number; text: string }) => void) | undefined
  private failed: ((error: Error) => void) | undefined

  private constructor(socket: net.Socket, url: URL) {
    this.socket = socket
    this.head =
      `POST ${url.pathname} HTTP/1.1\r\nHost: ${url.host}\r\nContent-Type: application/x-protobuf\r\n` +
      'Content-Encoding: snappy\r\nX-Prometheus-Remote-Write-Version: 0.1.0\r\nUser-Agent: carillon-bench\r\nContent-Length: '
    socket.setNoDelay(true)
    socket.setEncoding('latin1')
    socket.on('data', (text: string) => this.receive(text))
    socket.on('error', (error) => this.failed?.(error))
    socket.on('close', () => this.failed?.(new Error('the connection was closed')))
  }

  static open(url: URL): Promise<Sender> {
    return new Promise((resolve, reject) => {
      const socket = net.connect({ host: url.hostname, port: Number(url.port) }, () => resolve(new Sender(socket, url)))
      socket.once('error', reject)
    })
  }

  post(payload: Buffer): Promise<{ status: number; text: string }> {
    return new Promise((resolve, reject) => {
      const timer = setTimeout(() => reject(new Error(`no answer within ${ANSWER_MS_MAX} ms`)), ANSWER_MS_MAX)
      this.answered = (answer) => {
        clearTimeout(timer)
        resolve(answer)
      }
      this.failed = reject
      this.socket.cork()
      this.socket.write(`${this.head}${payload.length}\r\n\r\n`, 'latin1')
      this.socket.write(payload)
      this.socket.uncork()
    })
  }

  close(): void {
    this.failed = undefined
    this.socket.destroy()
  }

  private receive(text: string): void {
    this.received += text
    const headEnd = this.received.indexOf('\r\n\r\n')
    if (headEnd < 0) return
    const length = Number(/\r\ncontent-length: (\d+)/i.exec(this.received.slice(0, headEnd))?.[1] ?? 0)
    const end = headEnd + 4 + length
    if (this.received.length < end) return
    const answer = { status: Number(this.received.slice(9, 12)), text: this.received.slice(headEnd + 4, end) }
    this.received = this.received.slice(end)
    this.answered?.(answer)
  }
}

process.once('message', (order) => {
  const tell = (message: object) => void process.send?.(message, () => process.disconnect?.())
  run(order as LoadOrder).then(
    (result) => tell({ result }),
    (error: unknown) => tell({ failure: String(error) }),
  )
})
