// The thread that builds blocks (block-builder.ts): takes frames, then the word to build, gives blocks.
import { parentPort } from 'node:worker_threads'
import { present } from '../../../shared/base/assert.ts'
import { textOf } from '../../../shared/base/errors.ts'
import type { SelectFrame } from '../../../shared/contracts/read.ts'
import type { WorkerReply, WorkerRequest } from './block-builder.ts'
import { type BuildRequest, buildBlocks } from './flush-build.ts'

const port = present(parentPort, 'the port to the parent thread')
let frames: SelectFrame[] = []

port.on('message', (ask: WorkerRequest) => {
  if (ask.kind === 'frame') frames.push(ask.frame)
  else void build(ask.ask)
})

async function build(ask: BuildRequest): Promise<void> {
  const held = frames
  frames = []
  try {
    const blocks = await buildBlocks(ask, held)
    const buffers = blocks.flatMap(({ files }) => files.map(({ bytes }) => bytes.buffer))
    answer({ kind: 'built', blocks }, [...new Set(buffers)])
  } catch (error) {
    answer({ kind: 'failed', text: textOf(error) }, [])
  }
}

function answer(reply: WorkerReply, buffers: ArrayBuffer[]): void {
  port.postMessage(reply, buffers)
}
