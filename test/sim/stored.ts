// What blocks hold at the end of a simulated history, read as a querier would: the manifest's blocks through the object store.
import { textOf } from '../../shared/base/errors.ts'
import type { Blocks } from '../../shared/blocks/port.ts'
import type { BlockEntry } from '../../shared/contracts/blocks.ts'
import { labelsKey } from '../../shared/model/labels.ts'
import { BlockReader } from '../../shared/tsdb/block/reader.ts'
import { decodeXor, ENCODING_XOR } from '../../shared/tsdb/chunk/xor.ts'

export interface StoredSamples {
  /** Greatest value of each (series, time). */
  readonly values: ReadonlyMap<string, number>
  /** Samples of each partition's flushed blocks, counted once per segment. */
  readonly counts: ReadonlyMap<number, number>
  /** The newest flushed segment of each partition. */
  readonly flushed: ReadonlyMap<number, number>
  readonly faults: readonly string[]
}

export async function readStored(blocks: Blocks, tenant: string, partitionCount: number): Promise<StoredSamples> {
  const values = new Map<string, number>()
  const counts = new Map<number, number>()
  const flushed = new Map<number, number>()
  const faults: string[] = []
  for (let partition = 0; partition < partitionCount; partition++) flushed.set(partition, blocks.flushed(partition))
  const manifest = blocks.manifest(tenant)?.manifest
  for (const [partition, segment] of Object.entries(manifest?.flushed ?? {})) {
    // A flush may have been cut off between the manifest and the watermark: the larger of the two counts (L15).
    flushed.set(Number(partition), Math.max(segment, flushed.get(Number(partition)) ?? 0))
  }
  faults.push(...(await blocks.checkChain(tenant)))
  const ulids = new Set<string>()
  const isSupplement = ({ origin }: BlockEntry) => origin.kind === 'flush' && origin.isSupplement === true
  const listed = manifest?.blocks ?? []
  for (const entry of [...listed.filter((each) => !isSupplement(each)), ...listed.filter(isSupplement)]) {
    const { origin, ulid } = entry
    if (origin.kind !== 'flush') continue
    if (ulids.has(ulid)) faults.push(`block ${ulid} is listed twice`)
    ulids.add(ulid)
    if (entry.gaps) faults.push(`block ${ulid} has gaps`)
    if (!isSupplement(entry)) counts.set(origin.partition, (counts.get(origin.partition) ?? 0) + entry.sampleCount)
    try {
      const files = blocks.openBlock(tenant, entry)
      const reader = await BlockReader.open(files, await files.meta(), { isThorough: true })
      for await (const batch of reader.allSeries()) {
        for (const { labels, chunks } of batch) {
          for (const { encoding, bytes, count } of chunks) {
            if (encoding !== ENCODING_XOR) continue
            const columns = { times: new Float64Array(count), values: new Float64Array(count) }
            decodeXor(bytes, 0, bytes.length, columns.times, columns.values, 0)
            for (let i = 0; i < count; i++) {
              const key = `${labelsKey(labels)}@${columns.times[i]}`
              // Of an owner that was away for long, in the middle of a segment: nothing is lost here, so it repeats what was flushed.
              if (isSupplement(entry) && values.get(key) !== columns.values[i])
                faults.push(`supplement ${ulid} adds ${key}`)
              values.set(key, Math.max(columns.values[i]!, values.get(key) ?? Number.NEGATIVE_INFINITY))
            }
          }
        }
      }
    } catch (error) {
      faults.push(`block ${ulid}: ${textOf(error)}`)
    }
  }
  return { values, counts, flushed, faults }
}
