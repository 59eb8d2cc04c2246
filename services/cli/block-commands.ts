// `carillon blocks …`: what a person does with the blocks of a tenant, from anywhere that reaches a gateway.
import path from 'node:path'
import { type ConfigOf, choice, defineSettings, duration, flag, list, text } from '../../shared/config/settings.ts'
import { showBytes } from '../../shared/config/units.ts'
import type { BlockEntry, DeleteEntry } from '../../shared/contracts/blocks.ts'
import type { BlockFiles } from '../../shared/tsdb/block/files.ts'
import { META_FILE } from '../../shared/tsdb/block/files.ts'
import { type BlockMeta, parseMeta } from '../../shared/tsdb/block/meta.ts'
import { type BlockProblem, verifyBlock } from '../../shared/tsdb/block/verify.ts'
import { SetupError } from '../launcher/setup-error.ts'
import { type BlockList, downloadBlocks, refuseMissing } from './block-download.ts'
import { blockFolders, folderFiles } from './block-folders.ts'
import { uploadBlocks } from './block-upload.ts'
import type { Outcome } from './command.ts'
import { GatewayClient, GatewayError, type GatewayOptions, withId } from './gateway-client.ts'
import { progressTo } from './progress.ts'
import { gatewayCommand } from './system.ts'
import { printed, table, timeText } from './table.ts'

const blockSettings = defineSettings({
  tenant: text('', 'whose blocks; empty: the tenant of the credential, or "anonymous"'),
  block: list([], 'only these blocks, for download and verify'),
  replace: flag(false, 'upload: what is listed of the same blocks goes when they come, e.g. because it is damaged'),
  dropExternalLabel: list([], 'upload: external labels of Thanos that do not become labels of the series'),
  waitMs: duration('30m', 'how long `blocks upload` waits for a block to be validated'),
  output: choice(['text', 'json'], 'text', 'text for people, or one JSON document'),
})

/** Exit code of an upload: nothing failed, but some blocks hold no samples and stayed out. */
const SKIPPED = 3

type BlockConfig = ConfigOf<typeof blockSettings> & Pick<GatewayOptions, 'gateway' | 'credentialsFile' | 'isGuess'>

const blockVerbs: Readonly<Record<string, string>> = {
  list: 'blocks list                  the blocks of a tenant',
  inspect: 'blocks inspect ULID          one block: counts, origin, files',
  download: 'blocks download DIR          as a Prometheus data directory, e.g. for a backup',
  verify: 'blocks verify [DIR]          looks at every byte, in a folder or in the store',
  upload: 'blocks upload DIR            blocks of Prometheus, Thanos, Mimir or a backup come in',
}

export const blocksCommand = gatewayCommand({
  name: 'blocks',
  usage: '{list|inspect|download|verify|upload} [DIR|ULID] [flags]',
  does: 'blocks {list,inspect,download,verify,upload}: the blocks of a tenant, over a gateway',
  intro: `Works on the blocks of one tenant, over a gateway.\n  ${Object.values(blockVerbs).join('\n  ')}`,
  settings: blockSettings,
  takesWords: true,
  run: ({ words: [verb = '', ...operands], config, door }) => runBlocks(verb, operands, { ...door, ...config }),
})

async function runBlocks(verb: string, operands: readonly string[], config: BlockConfig): Promise<Outcome> {
  const [operand = '', ...more] = operands
  const needsOperand = verb === 'inspect' || verb === 'download' || verb === 'upload'
  const isWanted = more.length === 0 && (needsOperand ? operand !== '' : operand === '' || verb === 'verify')
  if (!isWanted || !Object.hasOwn(blockVerbs, verb))
    throw new SetupError(2, `blocks wants one of\n  ${Object.values(blockVerbs).join('\n  ')}`)
  const progress = progressTo(process.stderr)
  if (verb === 'verify' && operand !== '') return verified(await verifyFolder(operand, config.block), config)
  const client = new GatewayClient(config)
  if (verb === 'list') return listed(await client.data<BlockList>('/api/v1/blocks'), config)
  if (verb === 'inspect')
    return inspected(await client.data<Inspected>(`/api/v1/blocks/${encodeURIComponent(operand)}`), config)
  if (verb === 'verify') return verified(await verifyStored(client, config.block), config)
  if (verb === 'download') {
    const report = await downloadBlocks(client, operand, config.block, progress)
    const count = `${report.blocks.length} blocks of tenant "${report.tenant}", ${showBytes(report.bytes)}`
    return shown(config, report, `${count}, as of version ${report.version} of its manifest, are in ${operand}\n`)
  }
  const { waitMs, replace: replaces, dropExternalLabel: dropped } = config
  const outcomes = await uploadBlocks(client, operand, { waitMs, replaces, dropped, progress })
  const rows = outcomes.map(({ ulid, outcome, blocks, labels, error }) => [
    ...[ulid, outcome, error ?? blocks.join(' ')],
    Object.entries(labels ?? {})
      .map(([name, value]) => `${name}=${JSON.stringify(value)}`)
      .join(' '),
  ])
  const isAny = (wanted: string) => outcomes.some(({ outcome }) => outcome === wanted)
  const exitCode = isAny('failed') ? 1 : isAny('skipped') ? SKIPPED : 0
  return {
    ...shown(
      config,
      { blocks: outcomes },
      `${table(['BLOCK', 'OUTCOME', 'BECAME', 'WITH LABELS'], rows).join('\n')}\n`,
    ),
    exitCode,
  }
}

function shown(config: BlockConfig, json: unknown, forPeople: string): Outcome {
  return { text: printed(config, json, forPeople), exitCode: 0 }
}

// ---- list and inspect ----

function listed(list: BlockList, config: BlockConfig): Outcome {
  const rows = list.blocks.map((block) => [
    ...[
      block.ulid,
      timeText(block.minTime),
      timeText(block.maxTime),
      String(block.seriesCount),
      String(block.sampleCount),
    ],
    ...[String(block.chunkCount), showBytes(block.bytes), originOf(block), noteOf(block, list.deletes)],
  ])
  const head = ['BLOCK', 'FROM', 'TO', 'SERIES', 'SAMPLES', 'CHUNKS', 'BYTES', 'ORIGIN', '']
  const bytes = list.blocks.reduce((sum, block) => sum + block.bytes, 0)
  const samples = list.blocks.reduce((sum, block) => sum + (block.resolutionMs === 0 ? block.sampleCount : 0), 0)
  const total = `${list.blocks.length} blocks, ${samples} samples, ${showBytes(bytes)}, version ${list.version}`
  return shown(config, list, `${table(head, rows).join('\n')}\n\n${total}\n`)
}

interface Inspected {
  readonly block: BlockEntry
  readonly deletes: readonly DeleteEntry[]
  readonly meta: BlockMeta
}

function inspected(found: Inspected, config: BlockConfig): Outcome {
  const { block, deletes, meta } = found
  const facts: [string, string][] = [
    ['block', block.ulid],
    ['from', timeText(block.minTime)],
    ['to', timeText(block.maxTime)],
    ['series', String(block.seriesCount)],
    ['samples', String(block.sampleCount)],
    ['chunks', String(block.chunkCount)],
    ['bytes', `${block.bytes}, ${(block.bytes / Math.max(1, block.sampleCount)).toFixed(2)} a sample`],
    ['origin', originOf(block)],
    ['sources', String(meta.compaction.sources?.length ?? 0)],
    ['resolution', block.resolutionMs === 0 ? 'samples' : `windows of ${block.resolutionMs} ms`],
    ['deletions', deletes.map(({ id }) => id).join(' ') || 'none'],
    ['gaps', block.gaps?.join('; ') ?? 'none'],
    ['meta.json', `SHA-256 ${block.metaSha256}`],
  ]
  const files = (meta.carillon?.files ?? []).map(({ name, size, sha256 }) => [name, String(size), sha256])
  const head = facts.map(([name, value]) => `${name.padEnd(12)}${value}`).join('\n')
  return shown(config, found, `${head}\n\n${table(['FILE', 'BYTES', 'SHA-256'], files).join('\n')}\n`)
}

function originOf({ origin }: BlockEntry): string {
  switch (origin.kind) {
    case 'flush':
      return `flush ${origin.partition}/${origin.segment}`
    case 'compaction':
      return `compaction ${origin.level}`
    case 'upload':
      return origin.source === undefined ? 'upload' : `upload of ${origin.source}`
  }
}

function noteOf({ ulid, resolutionMs, gaps }: BlockEntry, deletes: readonly DeleteEntry[]): string {
  const isHidden = deletes.some(({ blocks }) => blocks.includes(ulid))
  const notes = [
    resolutionMs > 0 ? `windows of ${resolutionMs / 1000} s` : '',
    isHidden ? 'deletion pending' : '',
    gaps ? 'has gaps' : '',
  ]
  return notes.filter((note) => note !== '').join(', ')
}

// ---- verify ----

interface Verified {
  readonly block: string
  readonly problems: readonly BlockProblem[]
}

async function verifyFolder(folder: string, ulids: readonly string[]): Promise<readonly Verified[]> {
  const all = await blockFolders(folder)
  const folders = all.filter((each) => ulids.length === 0 || ulids.includes(path.basename(each)))
  if (all.length === 0) throw new SetupError(2, `${folder} holds no blocks: a block is a folder named by a ULID`)
  if (folders.length < ulids.length) throw new SetupError(1, `${folder} does not hold all of ${ulids.join(', ')}`)
  const results: Verified[] = []
  for (const each of folders)
    results.push({ block: each, problems: await Array.fromAsync(verifyBlock(folderFiles(each))) })
  return results
}

async function verifyStored(client: GatewayClient, ulids: readonly string[]): Promise<readonly Verified[]> {
  const list = await client.data<BlockList>('/api/v1/blocks')
  refuseMissing(list, ulids)
  const results: Verified[] = []
  for (const { ulid, metaSha256 } of list.blocks) {
    if (ulids.length > 0 && !ulids.includes(ulid)) continue
    try {
      const files = await storedFiles(client, ulid)
      results.push({ block: ulid, problems: await Array.fromAsync(verifyBlock(files, { metaSha256 })) })
    } catch (error) {
      if (!(error instanceof GatewayError)) throw error
      if (error.status === 404 && (await isReplaced(client, ulid))) continue
      results.push({ block: ulid, problems: [{ file: '', offset: 0, text: withId(error.message, error.code) }] })
    }
  }
  return results
}

async function isReplaced(client: GatewayClient, ulid: string): Promise<boolean> {
  const { blocks } = await client.data<BlockList>('/api/v1/blocks')
  return blocks.every((block) => block.ulid !== ulid)
}

async function storedFiles(client: GatewayClient, ulid: string): Promise<BlockFiles> {
  const url = `/api/v1/blocks/${ulid}/files`
  const meta = await client.bytes(`${url}/${META_FILE}`)
  const sizes = new Map((parseMeta(meta).carillon?.files ?? []).map(({ name, size }) => [name, size]))
  return {
    size: async (file) => (file === META_FILE ? meta.length : (sizes.get(file) ?? 0)),
    async read(file, start, end) {
      if (file === META_FILE) return meta.subarray(start, end)
      if (start === end) return new Uint8Array(0)
      return await client.bytes(`${url}/${file}`, { headers: { Range: `bytes=${start}-${end - 1}` } })
    },
  }
}

function verified(results: readonly Verified[], config: BlockConfig): Outcome {
  const damaged = results.filter(({ problems }) => problems.length > 0)
  const lines = damaged.flatMap(({ block, problems }) =>
    problems.map(({ file, offset, text: what }) => `${block} ${file} at byte ${offset}: ${what}\n`),
  )
  const total = `${results.length} blocks, ${damaged.length} damaged\n`
  const exitCode = damaged.length > 0 ? 1 : 0
  return { ...shown(config, { blocks: results }, lines.join('') + total), exitCode }
}
