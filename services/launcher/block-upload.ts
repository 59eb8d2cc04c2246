// `carillon blocks upload`: blocks of a Prometheus, Thanos, Mimir or Carillon data directory come in over a gateway. Doing it again goes on
// where it broke off.
import fs from 'node:fs/promises'
import path from 'node:path'
import { sleep, systemClock } from '../../shared/base/clock.ts'
import { textOf } from '../../shared/base/errors.ts'
import { UPLOAD_PART_BYTES } from '../../shared/contracts/uploads.ts'
import { META_FILE } from '../../shared/tsdb/block/files.ts'
import { type BlockMeta, parseMeta } from '../../shared/tsdb/block/meta.ts'
import { blockFolders, filesOf, folderFiles } from './block-folders.ts'
import { type GatewayClient, GatewayError } from './gateway-client.ts'
import type { Progress } from './progress.ts'
import { SetupError } from './setup-error.ts'

export interface UploadedBlock {
  readonly ulid: string
  /** present: it came in before; skipped: windows, which are made of samples again. */
  readonly outcome: 'complete' | 'present' | 'skipped' | 'failed'
  /** What it became. */
  readonly blocks: readonly string[]
  readonly error?: string
  readonly errorId?: string
}

interface Check {
  readonly result: 'uploading' | 'validating' | 'complete' | 'failed'
  readonly blocks?: readonly string[]
  readonly error?: string
  readonly error_id?: string
}

const PIECE_BYTES = 4 * UPLOAD_PART_BYTES
const FILES_AT_ONCE = 4
const POLL_MS = 300

export async function uploadBlocks(
  client: GatewayClient,
  folder: string,
  { waitMs, replaces, progress }: { waitMs: number; replaces: boolean; progress: Progress },
): Promise<readonly UploadedBlock[]> {
  const folders = await blockFolders(folder)
  if (folders.length === 0) throw new SetupError(2, `${folder} holds no blocks: a block is a folder named by a ULID`)
  const outcomes: UploadedBlock[] = []
  for (const [index, each] of folders.entries()) {
    const title = `${index + 1} of ${folders.length} ${path.basename(each)}`
    const outcome = await uploadOne(client, each, { title, waitMs, replaces, progress })
    const { blocks, error = '' } = outcome
    progress.end(`${title}: ${outcome.outcome} ${outcome.outcome === 'failed' ? error : blocks.join(' ')}`.trimEnd())
    outcomes.push(outcome)
  }
  return outcomes
}

interface Uploading {
  readonly title: string
  readonly replaces: boolean
  readonly waitMs: number
  readonly progress: Progress
}

async function uploadOne(client: GatewayClient, folder: string, uploading: Uploading): Promise<UploadedBlock> {
  let ulid = path.basename(folder)
  try {
    const bytes = await fs.readFile(path.join(folder, META_FILE))
    const meta = parseMeta(bytes)
    ulid = meta.ulid
    if (isDownsampled(meta, bytes)) return { ulid, outcome: 'skipped', blocks: [] }
    return await send(client, folder, { ...uploading, ulid, bytes })
  } catch (error) {
    if (error instanceof SetupError && error.exitCode === 1 && error.message.startsWith('no gateway')) throw error
    const errorId = error instanceof GatewayError ? { errorId: error.code } : {}
    return { ulid, outcome: 'failed', blocks: [], error: textOf(error), ...errorId }
  }
}

async function send(
  client: GatewayClient,
  folder: string,
  { title, waitMs, replaces, progress, ulid, bytes }: Uploading & { ulid: string; bytes: Uint8Array },
): Promise<UploadedBlock> {
  const url = `/api/v1/upload/block/${ulid}`
  const files = await filesOf(folder)
  progress.begin(
    title,
    files.reduce((sum, { size }) => sum + size, 0),
  )
  try {
    await client.json(`${url}/start${replaces ? '?replace=true' : ''}`, {
      method: 'POST',
      body: withFiles(bytes, files),
    })
    await sendFiles(client, url, folder, files, progress)
    await client.json(`${url}/finish`, { method: 'POST' })
  } catch (error) {
    if (!(error instanceof GatewayError)) throw error
    if (error.code === 'err-carillon-upload-exists') {
      const { blocks = [] } = (await client.json(`${url}/check`)) as Check
      return { ulid, outcome: 'present', blocks }
    }
    if (error.code !== 'err-carillon-upload-busy' && error.code !== 'err-carillon-upload-finished') throw error
  }
  return await outcomeOf(client, url, { ulid, waitMs, progress })
}

async function sendFiles(
  client: GatewayClient,
  url: string,
  folder: string,
  files: readonly { name: string; size: number }[],
  progress: Progress,
): Promise<void> {
  const local = folderFiles(folder)
  const left = files.flatMap(({ name, size }) =>
    Array.from({ length: Math.ceil(size / PIECE_BYTES) }, (_, index) => ({
      name,
      start: index * PIECE_BYTES,
      end: Math.min(size, (index + 1) * PIECE_BYTES),
    })),
  )
  left.reverse()
  const work = async (): Promise<void> => {
    for (let piece = left.pop(); piece !== undefined; piece = left.pop()) {
      const { name, start, end } = piece
      const body = await local.read(name, start, end)
      const query = new URLSearchParams({ path: name, offset: String(start) })
      await client.json(`${url}/files?${query}`, { method: 'POST', body })
      progress.add(end - start)
    }
  }
  await Promise.all(Array.from({ length: FILES_AT_ONCE }, work))
}

async function outcomeOf(
  client: GatewayClient,
  url: string,
  { ulid, waitMs, progress }: { ulid: string; waitMs: number; progress: Progress },
): Promise<UploadedBlock> {
  const untilMs = systemClock.monotonic() + waitMs
  for (;;) {
    const { result, blocks = [], error, error_id } = (await client.json(`${url}/check`)) as Check
    if (result === 'complete') return { ulid, outcome: 'complete', blocks }
    if (result === 'failed')
      return {
        ulid,
        outcome: 'failed',
        blocks,
        error: error ?? '',
        ...(error_id === undefined ? {} : { errorId: error_id }),
      }
    if (systemClock.monotonic() >= untilMs)
      return {
        ulid,
        outcome: 'failed',
        blocks,
        error: `it is still ${result} after ${waitMs} ms; does a compactor run?`,
      }
    progress.note(result)
    await sleep(systemClock, POLL_MS)
  }
}

/** meta.json with the list of files that uploads need. */
function withFiles(bytes: Uint8Array, files: readonly { name: string; size: number }[]): Uint8Array {
  const meta = JSON.parse(Buffer.from(bytes).toString()) as { thanos?: object }
  const listed = files.map(({ name, size }) => ({ rel_path: name, size_bytes: size }))
  return Buffer.from(JSON.stringify({ ...meta, thanos: { ...meta.thanos, files: listed } }))
}

function isDownsampled({ carillon }: BlockMeta, bytes: Uint8Array): boolean {
  const { thanos } = JSON.parse(Buffer.from(bytes).toString()) as { thanos?: { downsample?: { resolution?: number } } }
  return (carillon?.resolutionMs ?? 0) > 0 || (thanos?.downsample?.resolution ?? 0) > 0
}
