// Looks at every byte of a block: before an upload counts, and when the scrubber comes by.
//
// Postings are compared with the series by name: count and two sums of hashes over (value, series). That finds accidents in memory that
// does not grow with the samples; who forges sums forges an upload of their own.
import { createHash } from 'node:crypto'
import { CorruptError } from '../../base/errors.ts'
import { compareBytes, compareLabels, formatLabels, type Labels } from '../../model/labels.ts'
import { sha256Of } from '../../wire/sha256.ts'
import { isHistogramEncoding } from '../chunk/histogram.ts'
import { chunkFault } from './chunk-samples.ts'
import {
  BlockCorruptError,
  type BlockFiles,
  corruptAt,
  INDEX_FILE,
  META_FILE,
  readExactly,
  TOMBSTONES_FILE,
} from './files.ts'
import { SERIES_ALIGN, TOC_BYTES } from './layout.ts'
import { type BlockFile, type BlockMeta, blockUlid, META_BYTES_MAX, parseMeta } from './meta.ts'
import { BlockReader, readToc } from './reader.ts'
import type { BlockSeries, ReadCall } from './series.ts'
import { readTombstones } from './tombstones.ts'
import { PostingsCheck } from './verify-postings.ts'

const WINDOW_BYTES = 1024 * 1024

export interface BlockProblem {
  readonly file: string
  readonly offset: number
  readonly text: string
}

export interface VerifyCall extends ReadCall {
  /** Whose block it is: then its ULID must be the one that its content gives. */
  readonly tenant?: string
  /** SHA-256 of meta.json, as a manifest has it. */
  readonly metaSha256?: string
  /** What no chunk of ours could keep is a problem as well (model/sample.ts). */
  readonly mustBeStorable?: boolean
}

/** What is wrong with a block; nothing when it is whole. Of damaged bytes the first in the index and its chunks is told, and every file
 *  that meta.json lists and that differs. Errors that are not about the block, such as of a store that does not answer, are thrown. */
export async function* verifyBlock(files: BlockFiles, call: VerifyCall = {}): AsyncGenerator<BlockProblem> {
  const problems: BlockProblem[] = []
  const check = <T>(step: () => Promise<T>): Promise<T | undefined> => guard(problems, step)
  const meta = await check(() => readMeta(files, call))
  if (meta !== undefined) {
    for (const file of meta.carillon?.files ?? []) {
      await check(() => checkFile(files, file, call.signal))
      yield* problems.splice(0)
    }
    await check(() => checkTombstones(files, meta, call.signal))
    await check(() => checkIndex(files, meta, call, problems))
  }
  yield* problems
}

/** Runs a step and keeps the damage that it finds. */
async function guard<T>(problems: BlockProblem[], step: () => Promise<T>): Promise<T | undefined> {
  try {
    return await step()
  } catch (error) {
    if (!(error instanceof CorruptError)) throw error
    const { file, offset, text } =
      error instanceof BlockCorruptError ? error : { file: '', offset: 0, text: error.message }
    problems.push({ file, offset, text })
    return undefined
  }
}

async function readMeta(files: BlockFiles, { tenant, metaSha256, signal }: VerifyCall): Promise<BlockMeta> {
  const size = await files.size(META_FILE, signal)
  if (size > META_BYTES_MAX) throw corruptAt(META_FILE, META_BYTES_MAX, `has ${size} bytes`)
  const bytes = await readExactly(files, META_FILE, 0, size, signal)
  if (metaSha256 !== undefined && sha256Of(bytes) !== metaSha256) {
    throw corruptAt(META_FILE, 0, 'its SHA-256 is not that of the manifest')
  }
  const meta = parseMeta(bytes)
  if (tenant === undefined || meta.carillon === undefined) return meta
  const ulid = blockUlid({ tenant, minTime: meta.minTime, origin: meta.carillon.origin, files: meta.carillon.files })
  if (meta.ulid === ulid) return meta
  throw corruptAt(META_FILE, 0, `the ULID is ${meta.ulid}, the content gives ${ulid}`)
}

async function checkFile(files: BlockFiles, { name, size, sha256 }: BlockFile, signal?: AbortSignal): Promise<void> {
  const found = await files.size(name, signal)
  if (found !== size) throw corruptAt(name, Math.min(found, size), `has ${found} bytes, meta.json says ${size}`)
  const hash = createHash('sha256')
  for (let at = 0; at < size; at += WINDOW_BYTES) {
    hash.update(await readExactly(files, name, at, Math.min(size, at + WINDOW_BYTES), signal))
  }
  if (hash.digest('hex') !== sha256) throw corruptAt(name, 0, 'its SHA-256 is not that of meta.json')
}

async function checkTombstones(files: BlockFiles, meta: BlockMeta, signal?: AbortSignal): Promise<void> {
  const listed = meta.carillon?.files.find(({ name }) => name === TOMBSTONES_FILE)
  const { numTombstones = 0 } = meta.stats
  if (listed === undefined && numTombstones === 0) return
  const size = await files.size(TOMBSTONES_FILE, signal)
  const stones = readTombstones(await readExactly(files, TOMBSTONES_FILE, 0, size, signal))
  if (stones.length === numTombstones) return
  throw corruptAt(META_FILE, 0, `numTombstones is ${numTombstones}, the block has ${stones.length}`)
}

/** Stops at the first damage; what breaks a rule is collected. */
async function checkIndex(
  files: BlockFiles,
  meta: BlockMeta,
  call: VerifyCall,
  problems: BlockProblem[],
): Promise<void> {
  const size = await files.size(INDEX_FILE, call.signal)
  const toc = await readToc(files, size, call.signal)
  const postings = new PostingsCheck()
  await postings.readTable(files, toc, size - TOC_BYTES, call)
  await postings.readLists(files, toc, call.signal)
  const reader = await BlockReader.open(files, meta, { ...call, isThorough: true })
  const series = new SeriesCheck(meta, problems, call.mustBeStorable)
  for await (const batch of reader.allSeries(call)) {
    for (const one of batch) {
      series.check(one)
      postings.addSeries(one)
    }
    if (problems.length > PROBLEMS_MAX) return
  }
  series.finish()
  for (const text of postings.differences()) problems.push({ file: INDEX_FILE, offset: toc.postings, text })
}

/** Broken rules that are told before the rest of a block is left alone. */
const PROBLEMS_MAX = 100

/** What must hold of series and chunks, one after the other. */
class SeriesCheck {
  private readonly meta: BlockMeta
  private readonly problems: BlockProblem[]
  private readonly mustBeStorable: boolean
  private before: Labels | undefined
  private seriesCount = 0
  private chunkCount = 0
  private floatCount = 0
  private histogramCount = 0

  constructor(meta: BlockMeta, problems: BlockProblem[], mustBeStorable = false) {
    this.mustBeStorable = mustBeStorable
    this.meta = meta
    this.problems = problems
  }

  check(series: BlockSeries): void {
    this.seriesCount++
    for (const text of this.faultsOf(series)) {
      const place = { file: INDEX_FILE, offset: series.ref * SERIES_ALIGN }
      this.problems.push({ ...place, text: `${formatLabels(series.labels)}: ${text}` })
    }
  }

  /** Compares the counts with those of meta.json. */
  finish(): void {
    const { stats } = this.meta
    const counted: [string, number, number | undefined][] = [
      ['numSeries', this.seriesCount, stats.numSeries ?? 0],
      ['numChunks', this.chunkCount, stats.numChunks ?? 0],
      ['numSamples', this.floatCount + this.histogramCount, stats.numSamples ?? 0],
      ['numFloatSamples', this.floatCount, stats.numFloatSamples], // not all versions of Prometheus split the count
      ['numHistogramSamples', this.histogramCount, stats.numHistogramSamples],
    ]
    for (const [name, count, said] of counted) {
      if (said === undefined || count === said) continue
      this.problems.push({ file: META_FILE, offset: 0, text: `${name} is ${said}, the block has ${count}` })
    }
  }

  private *faultsOf({ labels, chunks }: BlockSeries): Generator<string> {
    if (this.before !== undefined && compareLabels(this.before, labels) >= 0) yield 'is not behind the series before'
    this.before = labels
    for (let i = 0; i < labels.length; i += 2) {
      if (labels[i + 1] === '') yield `the label ${labels[i]} has no value`
      if (i > 0 && compareBytes(labels[i - 2]!, labels[i]!) >= 0) yield `the label ${labels[i]} is out of order`
    }
    if (chunks.length === 0) yield 'has no chunks'
    let lastTime = Number.NEGATIVE_INFINITY
    for (const chunk of chunks) {
      this.chunkCount++
      if (isHistogramEncoding(chunk.encoding)) this.histogramCount += chunk.count
      else this.floatCount += chunk.count
      if (chunk.minTime <= lastTime) yield `the chunk from ${chunk.minTime} on overlaps the one before`
      lastTime = chunk.maxTime
      const isInside = chunk.minTime >= this.meta.minTime && chunk.maxTime < this.meta.maxTime
      if (!isInside) yield `the chunk from ${chunk.minTime} on lies outside the times of meta.json`
      const fault = chunkFault(chunk, this.mustBeStorable)
      if (fault !== undefined) yield `the chunk from ${chunk.minTime} on ${fault}`
    }
  }
}
