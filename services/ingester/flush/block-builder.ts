// Where blocks are built: in a thread of their own, so that heads go on answering meanwhile; or right here, where virtual time rules (an
// await on a thread would not be seen by it).
import { Worker } from 'node:worker_threads'
import type { Clock } from '../../../shared/base/clock.ts'
import { textOf, UnavailableError } from '../../../shared/base/errors.ts'
import type { SelectFrame } from '../../../shared/contracts/read.ts'
import { type BuildRequest, type BuiltBlock, buildBlocks } from './flush-build.ts'

export interface BlockBuilder {
  /** Takes frames as they come, then gives the blocks. The frames' buffers are gone afterwards. */
  build(ask: BuildRequest, frames: AsyncIterable<SelectFrame>): Promise<BuiltBlock[]>
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

export type WorkerRequest =
  | { readonly kind: 'frame'; readonly frame: SelectFrame }
  | { readonly kind: 'build'; readonly ask: BuildRequest }

export type WorkerReply =
  | { readonly kind: 'built'; readonly blocks: readonly BuiltBlock[] }
  | { readonly kind: 'failed'; readonly text: string }

/** A build that takes longer hangs: its thread is ended. */
const BUILD_MS_MAX = 900_000

/** One thread, started by the first build; builds come one after the other. A thread that ends, whenever it does, fails the build at work, and
 *  the next build starts another. */
export class ThreadBuilder implements BlockBuilder {
  readonly #clock: Clock
  #thread: BuilderThread | undefined
  #queue: Promise<unknown> = Promise.resolve()

  constructor(clock: Clock) {
    this.#clock = clock
  }

  build(ask: BuildRequest, frames: AsyncIterable<SelectFrame>): Promise<BuiltBlock[]> {
    const built = this.#queue.then(() => this.#build(ask, frames))
    this.#queue = built.catch(() => this.close()) // frames that it holds belong to the build that failed
    return built
  }

  async close(): Promise<void> {
    const ended = this.#thread
    this.#thread = undefined
    await ended?.end()
  }

  async #build(ask: BuildRequest, frames: AsyncIterable<SelectFrame>): Promise<BuiltBlock[]> {
    if (this.#thread?.failure !== undefined) this.#thread = undefined
    this.#thread ??= new BuilderThread(this.#clock)
    const used = this.#thread
    for await (const frame of frames) used.give(frame)
    const reply = await used.build(ask)
    if (reply.kind === 'built') return [...reply.blocks]
    throw new UnavailableError('flush-build-failed', reply.text)
  }
}

class BuilderThread {
  /** Why it takes nothing any more. It is listened for from the beginning: a thread may end while nobody waits for its answer. */
  failure: UnavailableError | undefined
  private readonly clock: Clock
  private readonly worker: Worker
  private asked: PromiseWithResolvers<WorkerReply> | undefined

  constructor(clock: Clock) {
    this.clock = clock
    this.worker = new Worker(new URL('./block-worker.ts', import.meta.url), { name: 'block-builder' })
    this.worker.unref()
    this.worker.on('message', (reply: WorkerReply) => this.asked?.resolve(reply))
    this.worker.on('messageerror', (error) => this.fail(error))
    this.worker.on('error', (error) => this.fail(error))
    this.worker.on('exit', () => this.fail(new Error('the thread that builds blocks ended')))
  }

  give(frame: SelectFrame): void {
    if (this.failure !== undefined) throw this.failure
    this.worker.postMessage({ kind: 'frame', frame } satisfies WorkerRequest, buffersOf(frame))
  }

  async build(ask: BuildRequest): Promise<WorkerReply> {
    if (this.failure !== undefined) throw this.failure
    this.asked = Promise.withResolvers<WorkerReply>()
    const late = new Error(`the thread that builds blocks has not answered for ${BUILD_MS_MAX / 60_000} minutes`)
    const timer = this.clock.after(BUILD_MS_MAX, () => this.fail(late))
    try {
      this.worker.postMessage({ kind: 'build', ask } satisfies WorkerRequest)
      return await this.asked.promise
    } finally {
      timer.cancel()
      this.asked = undefined
    }
  }

  async end(): Promise<void> {
    await this.worker.terminate()
  }

  private fail(error: unknown): void {
    this.failure ??= new UnavailableError('flush-build-failed', textOf(error), { cause: error })
    this.asked?.reject(this.failure)
  }
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
