// The thread that merges and imports (thread-merger.ts): one task, then it ends.
import { parentPort, workerData } from 'node:worker_threads'
import { present } from '../../../shared/base/assert.ts'
import { importBlock } from '../import/import-block.ts'
import { countBlock } from '../merge/count-block.ts'
import { mergeBlocks } from '../merge/merge-blocks.ts'
import {
  fromThread,
  type ThreadMessage,
  type ThreadReply,
  type ThreadRequest,
  type ThreadTask,
  toThread,
} from './thread-worker.ts'

const port = present(parentPort, 'the port of a worker thread')
const waiting = new Map<number, PromiseWithResolvers<unknown>>()
let asked = 0

port.on('message', (reply: ThreadReply) => {
  const asker = waiting.get(reply.id)
  waiting.delete(reply.id)
  if ('error' in reply) asker?.reject(fromThread(reply.error))
  else asker?.resolve(reply.value)
})

const io = {
  size: (ulid: string, file: string): Promise<number> => ask((id) => ({ kind: 'size', id, ulid, file })),
  read: (ulid: string, file: string, start: number, end: number): Promise<Uint8Array> =>
    ask((id) => ({ kind: 'read', id, ulid, file, start, end })),
  write: (output: string, file: string, bytes: Uint8Array<ArrayBuffer>): Promise<void> =>
    ask((id) => ({ kind: 'write', id, output, file, bytes }), [bytes.buffer]),
}

function ask<T>(make: (id: number) => ThreadRequest, transfer: ArrayBuffer[] = []): Promise<T> {
  const id = asked++
  const answer = Promise.withResolvers<unknown>()
  waiting.set(id, answer)
  port.postMessage(make(id), transfer)
  return answer.promise as Promise<T>
}

async function run(task: ThreadTask): Promise<ThreadMessage> {
  const { signal } = new AbortController() // aborting ends the thread
  try {
    return { kind: 'done', report: await carryOut(task, signal) }
  } catch (error) {
    return { kind: 'failed', error: toThread(error) }
  }
}

function carryOut(task: ThreadTask, signal: AbortSignal): Promise<unknown> {
  switch (task.kind) {
    case 'merge':
      return mergeBlocks(task.job, io, signal)
    case 'count':
      return countBlock(task.source, io, signal)
    case 'import':
      return importBlock(task.job, io, signal)
  }
}

port.postMessage(await run(workerData as ThreadTask))
port.close()
