// A way from an actor to NATS that can be cut: bytes stop in both directions and nobody is told, as when a cable is pulled.
import { createServer, connect as dial, type Socket } from 'node:net'

export interface Link {
  /** For `--nats`. */
  readonly url: string
  cut(): void
  /** Bytes flow again, those that were held first; connections of which one end is gone are closed. */
  heal(): void
  stop(): void
}

export async function startLink(nats: string): Promise<Link> {
  const { hostname, port } = new URL(nats)
  const pairs = new Set<Pair>()
  let isCut = false
  const server = createServer({ pauseOnConnect: true }, (near) => {
    const pair = new Pair(
      near,
      () => dial(Number(port), hostname),
      () => pairs.delete(pair),
    )
    pairs.add(pair)
    if (!isCut) pair.open()
  })
  const listening = Promise.withResolvers<void>()
  server.listen(0, '127.0.0.1', listening.resolve)
  await listening.promise
  const address = server.address()
  if (typeof address !== 'object' || address === null) throw new Error('the link has no port')
  return {
    url: `nats://127.0.0.1:${address.port}`,
    cut() {
      isCut = true
      for (const pair of pairs) pair.hold()
    },
    heal() {
      isCut = false
      for (const pair of pairs) pair.open()
    },
    stop() {
      server.close()
      for (const pair of pairs) pair.end()
    },
  }
}

class Pair {
  private far: Socket | undefined
  private isHeld = true
  private isBroken = false
  private readonly near: Socket
  private readonly toFar: () => Socket
  private readonly onEnd: () => void

  constructor(near: Socket, toFar: () => Socket, onEnd: () => void) {
    this.near = near
    this.toFar = toFar
    this.onEnd = onEnd
    this.watch(near, () => this.far)
  }

  open(): void {
    this.isHeld = false
    if (this.isBroken) return this.end()
    if (this.far === undefined) {
      this.far = this.toFar()
      this.watch(this.far, () => this.near)
    }
    this.near.resume()
    this.far.resume()
  }

  hold(): void {
    this.isHeld = true
    this.near.pause()
    this.far?.pause()
  }

  end(): void {
    this.near.destroy()
    this.far?.destroy()
    this.onEnd()
  }

  private watch(socket: Socket, other: () => Socket | undefined): void {
    socket.setNoDelay(true)
    socket.on('data', (bytes) => void other()?.write(bytes))
    socket.on('error', () => {}) // its close follows
    socket.on('close', () => {
      this.isBroken = true
      if (!this.isHeld) this.end()
    })
  }
}
