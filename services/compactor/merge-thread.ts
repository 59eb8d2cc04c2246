// The thread that merges (thread-merger.ts): one task, then it ends.
import { parentPort, workerData } from 'node:worker_threads'
import { present } from '../../shared/base/assert.ts'
import { countBlock } from './count-block.ts'
import { mergeBlocks } from './merge-blocks.ts'
import type { MergeIo } from './merge-job.ts'
import {
  fromThread,
  type ThreadAsk,
  type ThreadMessage,
  type ThreadReply,
  type ThreadTask,
  toThread,
} from './thread-merger.ts'

const port = present(parentPort, 'the port of a worker thread')
const waiting = new Map<number, PromiseWithResolvers<unknown>>()
let asked = 0

port.on('message', (reply: ThreadReply) => {
  const asker = waiting.get(reply.id)
  waiting.delete(reply.id)
  if ('error' in reply) asker?.reject(fromThread(reply.error))
  else asker?.resolve(reply.value)
})

const io: MergeIo = {
  size: (ulid, file) => ask((id) => ({ kind: 'size', id, ulid, file })),
  read: (ulid, file, start, end) => ask((id) => ({ kind: 'read', id, ulid, file, start, end })),
  write: (output, file, bytes) => ask((id) => ({ kind: 'write', id, output, file, bytes }), [bytes.buffer]),
}

function ask<T>(make: (id: number) => ThreadAsk, transfer: ArrayBuffer[] = []): Promise<T> {
  const id = asked++
  const answer = Promise.withResolvers<unknown>()
  waiting.set(id, answer)
  port.postMessage(make(id), transfer)
  return answer.promise as Promise<T>
}

async function run(task: ThreadTask): Promise<ThreadMessage> {
  const { signal } = new AbortController() // aborting ends the thread
  try {
    const report =
      task.kind === 'merge' ? await mergeBlocks(task.job, io, signal) : await countBlock(task.source, io, signal)
    return { kind: 'done', report }
  } catch (error) {
    return { kind: 'failed', error: toThread(error) }
  }
}

port.postMessage(await run(workerData as ThreadTask))
port.close()
