// `carillon blocks upload`: blocks of a Prometheus, Thanos, Mimir or Carillon data directory come in over a gateway. Doing it again goes on
// where it broke off.
import fs from 'node:fs/promises'
import path from 'node:path'
import { sleep, systemClock } from '../../shared/base/clock.ts'
import { textOf } from '../../shared/base/errors.ts'
import { showDuration } from '../../shared/config/units.ts'
import { UPLOAD_PART_BYTES } from '../../shared/contracts/uploads.ts'
import { META_FILE } from '../../shared/tsdb/block/files.ts'
import { parseMeta, windowMsOf } from '../../shared/tsdb/block/meta.ts'
import { SetupError } from '../launcher/setup-error.ts'
import { blockFolders, filesOf, folderFiles } from './block-folders.ts'
import { type GatewayClient, GatewayError } from './gateway-client.ts'
import type { Progress } from './progress.ts'

export interface UploadedBlock {
  readonly ulid: string
  /** present: it came in before; skipped: it holds windows in place of samples. */
  readonly outcome: 'complete' | 'present' | 'skipped' | 'failed'
  /** What it became. */
  readonly blocks: readonly string[]
  /** What its series got: the external labels of the block. */
  readonly labels?: Readonly<Record<string, string>>
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
  uploads: Omit<Uploading, 'title'>,
): Promise<readonly UploadedBlock[]> {
  const folders = await blockFolders(folder)
  if (folders.length === 0) throw new SetupError(2, `${folder} holds no blocks: a block is a folder named by a ULID`)
  const outcomes: UploadedBlock[] = []
  for (const [index, each] of folders.entries()) {
    const title = `${index + 1} of ${folders.length} ${path.basename(each)}`
    const outcome = await uploadOne(client, each, { ...uploads, title })
    uploads.progress.end(`${title}: ${outcome.outcome} ${outcome.error ?? outcome.blocks.join(' ')}`.trimEnd())
    outcomes.push(outcome)
  }
  return outcomes
}

interface Uploading {
  readonly title: string
  readonly replaces: boolean
  readonly waitMs: number
  readonly progress: Progress
  /** External labels that stay out. */
  readonly dropped: readonly string[]
}

async function uploadOne(client: GatewayClient, folder: string, uploading: Uploading): Promise<UploadedBlock> {
  let ulid = path.basename(folder)
  try {
    const bytes = await fs.readFile(path.join(folder, META_FILE))
    const meta = parseMeta(bytes)
    ulid = meta.ulid
    const windowMs = windowMsOf(meta, bytes)
    if (windowMs > 0) return { ulid, outcome: 'skipped', blocks: [], ...windowsInPlace(windowMs) }
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
  { title, waitMs, replaces, progress, dropped, ulid, bytes }: Uploading & { ulid: string; bytes: Uint8Array },
): Promise<UploadedBlock> {
  const url = `/api/v1/upload/block/${ulid}`
  const files = await filesOf(folder)
  const { meta, labels } = metaToSend(bytes, files, dropped)
  progress.begin(
    title,
    files.reduce((sum, { size }) => sum + size, 0),
  )
  try {
    await client.json(`${url}/start${replaces ? '?replace=true' : ''}`, {
      method: 'POST',
      body: meta,
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
  const outcome = await outcomeOf(client, url, { ulid, waitMs, progress })
  return Object.keys(labels).length === 0 ? outcome : { ...outcome, labels }
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

/** meta.json with the list of files that uploads need, without the external labels that stay out; and those that are left. */
function metaToSend(
  bytes: Uint8Array,
  files: readonly { name: string; size: number }[],
  dropped: readonly string[],
): { meta: Uint8Array; labels: Readonly<Record<string, string>> } {
  const meta = JSON.parse(Buffer.from(bytes).toString()) as { thanos?: { labels?: Record<string, string> } }
  const listed = files.map(({ name, size }) => ({ rel_path: name, size_bytes: size }))
  const kept = Object.entries(meta.thanos?.labels ?? {}).filter(([name]) => !dropped.includes(name))
  const thanos = { ...meta.thanos, files: listed, labels: Object.fromEntries(kept) }
  return {
    meta: Buffer.from(JSON.stringify({ ...meta, thanos })),
    labels: Object.fromEntries(kept.filter(([name]) => !name.startsWith('__'))), // those are about the block
  }
}

function windowsInPlace(windowMs: number): Pick<UploadedBlock, 'error' | 'errorId'> {
  const error = `it holds windows of ${showDuration(windowMs)} in place of samples: upload the blocks that they were made of`
  return { error, errorId: 'err-carillon-upload-downsampled' }
}
