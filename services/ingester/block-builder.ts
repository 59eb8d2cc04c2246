// Where blocks are built: in a thread of their own, so that heads go on answering meanwhile; or right here, where virtual time rules (an
// await on a thread would not be seen by it).
import { Worker } from 'node:worker_threads'
import { textOf, UnavailableError } from '../../shared/base/errors.ts'
import type { SelectFrame } from '../../shared/contracts/read.ts'
import { type BuildAsk, type BuiltBlock, buildBlocks } from './flush-build.ts'

export interface BlockBuilder {
  /** Takes frames as they come, then gives the blocks. The frames' buffers are gone afterwards. */
  build(ask: BuildAsk, frames: AsyncIterable<SelectFrame>): Promise<BuiltBlock[]>
  close(): Promise<void>
}

export function inlineBuilder(): BlockBuilder {
  return {
    async build(ask, frames) {
      const held: SelectFrame[] = []
      for await (const frame of frames) held.push(frame)
      return buildBlocks(ask, held)
    },
    close: async () => {},
  }
}

export type WorkerAsk =
  | { readonly kind: 'frame'; readonly frame: SelectFrame }
  | { readonly kind: 'build'; readonly ask: BuildAsk }

export type WorkerReply =
  | { readonly kind: 'built'; readonly blocks: readonly BuiltBlock[] }
  | { readonly kind: 'failed'; readonly text: string }

/** One thread, started by the first build; builds come one after the other. */
export function threadBuilder(): BlockBuilder {
  let worker: Worker | undefined
  let queue: Promise<unknown> = Promise.resolve()

  const build = async (ask: BuildAsk, frames: AsyncIterable<SelectFrame>): Promise<BuiltBlock[]> => {
    worker ??= started()
    const thread = worker
    for await (const frame of frames) {
      thread.postMessage({ kind: 'frame', frame } satisfies WorkerAsk, buffersOf(frame))
    }
    const reply = await answered(thread, { kind: 'build', ask })
    if (reply.kind === 'built') return [...reply.blocks]
    throw new UnavailableError('flush-build-failed', reply.text)
  }

  const started = (): Worker => {
    const thread = new Worker(new URL('./block-worker.ts', import.meta.url), { name: 'block-builder' })
    thread.unref()
    thread.on('error', () => {}) // the build at work hears it, too; an idle thread is started anew
    thread.on('exit', () => {
      if (worker === thread) worker = undefined // the next build starts another
    })
    return thread
  }

  return {
    build(ask, frames) {
      const built = queue.then(() => build(ask, frames))
      queue = built.catch(async () => {
        await worker?.terminate() // frames that it holds belong to the build that failed
        worker = undefined
      })
      return built
    },
    async close() {
      await worker?.terminate()
      worker = undefined
    },
  }
}

function answered(thread: Worker, ask: WorkerAsk): Promise<WorkerReply> {
  return new Promise((resolve, reject) => {
    const settle = () => {
      thread.off('message', onMessage)
      thread.off('error', onError)
      thread.off('exit', onExit)
    }
    const onMessage = (reply: WorkerReply) => {
      settle()
      resolve(reply)
    }
    const onError = (error: unknown) => {
      settle()
      reject(new UnavailableError('flush-build-failed', textOf(error), { cause: error }))
    }
    const onExit = () => onError(new Error('the thread that builds blocks ended'))
    thread.on('message', onMessage)
    thread.on('error', onError)
    thread.on('exit', onExit)
    thread.postMessage(ask)
  })
}

/** Buffers that belong to the frame alone: those are handed over, not copied. */
function buffersOf(frame: SelectFrame): ArrayBuffer[] {
  const buffers = new Set<ArrayBuffer>()
  for (const column of Object.values(frame)) {
    if (ArrayBuffer.isView(column) && column.byteLength === column.buffer.byteLength && !Buffer.isBuffer(column)) {
      buffers.add(column.buffer as ArrayBuffer)
    }
  }
  return [...buffers]
}
