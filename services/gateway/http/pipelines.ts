// The requests of each connection that have no whole answer yet, in their order: a client may send the next before it has read an answer.
import type { IncomingMessage, ServerResponse } from 'node:http'
import type { Duplex } from 'node:stream'

/** With what tells each request that its client is gone. */
type Pipeline = Map<ServerResponse, AbortController>

export class Pipelines {
  readonly #of = new WeakMap<Duplex, Pipeline>()

  /** The signal aborts when the client hangs up before the answer is whole. */
  enter({ socket }: IncomingMessage, response: ServerResponse): AbortSignal {
    const gone = new AbortController()
    this.#on(socket).set(response, gone)
    return gone.signal
  }

  leave({ socket }: IncomingMessage, response: ServerResponse): void {
    const pipeline = this.#on(socket)
    pipeline.delete(response)
    const [next] = pipeline.keys()
    if (next !== undefined && !next.headersSent) socket.setTimeout(0) // it is being worked on, not stalled
  }

  waiting(socket: Duplex): readonly ServerResponse[] {
    return [...(this.#of.get(socket)?.keys() ?? [])]
  }

  #on(socket: Duplex): Pipeline {
    const known = this.#of.get(socket)
    if (known !== undefined) return known
    const pipeline: Pipeline = new Map()
    this.#of.set(socket, pipeline)
    socket.once('close', () => {
      for (const [response, gone] of pipeline) {
        if (!response.writableFinished) gone.abort(new Error('the client hung up'))
      }
    })
    return pipeline
  }
}
