// Merges and imports in a worker thread. The thread computes; every byte it reads or writes passes through here, where the connections are.
import { Worker } from 'node:worker_threads'
import type { CorruptCode, RefusedCode, UnavailableCode } from '../../../shared/base/error-codes.ts'
import { CorruptError, RefusedError, UnavailableError } from '../../../shared/base/errors.ts'
import type { Importer, ImportJob, ImportReport } from './import-job.ts'
import {
  type BlockCount,
  DamagedSourceError,
  type MergeJob,
  type MergeReport,
  type Merger,
  type MergeSource,
} from './merge-job.ts'

/** What the thread is told first. */
export type ThreadTask =
  | { readonly kind: 'merge'; readonly job: MergeJob }
  | { readonly kind: 'count'; readonly source: MergeSource }
  | { readonly kind: 'import'; readonly job: ImportJob }

/** What is done for the thread: MergeIo and ImportIo are such. */
interface ThreadIo {
  size(ulid: string, file: string): Promise<number>
  read(ulid: string, file: string, start: number, end: number): Promise<Uint8Array>
  write(output: string, file: string, bytes: Uint8Array<ArrayBuffer>): Promise<void>
}

/** What the thread asks for, numbered. */
export type ThreadRequest =
  | { readonly kind: 'size'; readonly id: number; readonly ulid: string; readonly file: string }
  | {
      readonly kind: 'read'
      readonly id: number
      readonly ulid: string
      readonly file: string
      readonly start: number
      readonly end: number
    }
  | {
      readonly kind: 'write'
      readonly id: number
      readonly output: string
      readonly file: string
      readonly bytes: Uint8Array<ArrayBuffer>
    }

export type ThreadMessage =
  | ThreadRequest
  | { readonly kind: 'done'; readonly report: unknown }
  | { readonly kind: 'failed'; readonly error: ThreadError }

export type ThreadReply =
  | { readonly id: number; readonly value: number | Uint8Array | undefined }
  | { readonly id: number; readonly error: ThreadError }

/** An error on its way between threads. */
export interface ThreadError {
  readonly family: 'refused' | 'damaged' | 'corrupt' | 'unavailable' | 'other'
  readonly code: string
  readonly text: string
  readonly ulid: string
  readonly stack: string
}

export function toThread(error: unknown): ThreadError {
  const isError = error instanceof Error
  const code = isError && 'code' in error ? String(error.code) : ''
  const stack = isError ? (error.stack ?? '') : ''
  const rest = { code, text: isError ? error.message : String(error), stack, ulid: '' }
  if (error instanceof DamagedSourceError) return { ...rest, family: 'damaged', ulid: error.ulid }
  if (error instanceof CorruptError) return { ...rest, family: 'corrupt' }
  if (error instanceof RefusedError) return { ...rest, family: 'refused' }
  if (error instanceof UnavailableError) return { ...rest, family: 'unavailable' }
  return { ...rest, family: 'other' }
}

export function fromThread({ family, code, text, ulid, stack }: ThreadError): Error {
  switch (family) {
    case 'refused':
      return new RefusedError(code as RefusedCode, text)
    case 'damaged':
      return new DamagedSourceError(ulid, text.replace(`block ${ulid}: `, ''))
    case 'corrupt':
      return new CorruptError(code as CorruptCode, text)
    case 'unavailable':
      return new UnavailableError(code as UnavailableCode, text)
    case 'other': // a bug as well: it has met one task in a thread of its own, and ends nothing else
      return new Error(`${text}\n${stack}`)
  }
}

export interface ThreadMergerOptions {
  /** Of the thread's heap; beyond it the thread ends and the merge fails. Buffers are not counted. */
  readonly heapBytesMax: number
}

export function threadMerger({ heapBytesMax }: ThreadMergerOptions): Merger & Importer {
  return {
    merge: (job, io, signal) => run<MergeReport>({ kind: 'merge', job }, io, signal),
    count: (source, io, signal) => run<BlockCount>({ kind: 'count', source }, { ...io, write: async () => {} }, signal),
    import: (job, io, signal) => run<ImportReport>({ kind: 'import', job }, io, signal),
  }

  async function run<T>(task: ThreadTask, io: ThreadIo, signal: AbortSignal): Promise<T> {
    signal.throwIfAborted()
    const worker = new Worker(new URL('./worker-thread.ts', import.meta.url), {
      workerData: task,
      resourceLimits: { maxOldGenerationSizeMb: Math.ceil(heapBytesMax / 1024 ** 2) },
    })
    const ended = Promise.withResolvers<T>()
    const onAbort = () => ended.reject(signal.reason)
    signal.addEventListener('abort', onAbort, { once: true })
    worker.on('message', (message: ThreadMessage) => {
      if (message.kind === 'done') ended.resolve(message.report as T)
      else if (message.kind === 'failed') ended.reject(fromThread(message.error))
      else void answer(worker, io, message)
    })
    worker.on('error', (error) => ended.reject(error))
    worker.on('exit', (code) =>
      ended.reject(new UnavailableError('merge-thread', `the merging thread ended with ${code}`)),
    )
    try {
      return await ended.promise
    } finally {
      signal.removeEventListener('abort', onAbort)
      await worker.terminate()
    }
  }
}

async function answer(worker: Worker, io: ThreadIo, ask: ThreadRequest): Promise<void> {
  const { id } = ask
  let reply: ThreadReply
  const moved: ArrayBuffer[] = []
  try {
    let value = (await carryOut(io, ask)) ?? undefined
    if (value instanceof Uint8Array) {
      const own = value.slice() // others may hold the bytes, or share their buffer
      moved.push(own.buffer)
      value = own
    }
    reply = { id, value }
  } catch (error) {
    reply = { id, error: toThread(error) }
  }
  worker.postMessage(reply, moved)
}

function carryOut(io: ThreadIo, ask: ThreadRequest): Promise<number | Uint8Array | undefined | void> {
  switch (ask.kind) {
    case 'size':
      return io.size(ask.ulid, ask.file)
    case 'read':
      return io.read(ask.ulid, ask.file, ask.start, ask.end)
    case 'write':
      return io.write(ask.output, ask.file, ask.bytes)
  }
}
