// What was staged goes into the batches of the partitions. Nothing awaits in here: a push is in its batches whole, or not at all. A hot kernel.
import type { LogPosition, PushReply } from '../../../shared/contracts/write.ts'
import type { Refusal } from '../../../shared/model/label-rules.ts'
import type { Dictionary } from '../log/dictionary.ts'
import type { PartitionWriter } from '../log/partition-writer.ts'
import type { Partitions } from '../log/partitions.ts'
import type { Staged } from './staged.ts'

export interface Written {
  readonly written: Pick<PushReply, 'samplesWritten' | 'histogramsWritten' | 'exemplarsWritten'>
  /** Of each partition: where its batch is stored, once it is; undefined where nothing went. */
  readonly commits: readonly Promise<LogPosition | undefined>[]
}

/** Of denied series nothing is written; they are refused with what `refusal` says. */
export function writeStaged(
  { staged, denied, used }: { staged: Staged; denied: ReadonlySet<number>; used: Dictionary },
  partitions: Partitions,
  refusal: () => Refusal,
): Written {
  const { writers } = partitions
  for (const writer of writers) writer.begin()
  const samplesWritten = writeFloats({ staged, denied, used }, writers, refusal)
  const histograms = staged.histograms.filter(({ ref }) => !denied.has(ref))
  const histogramsDenied = staged.histograms.length - histograms.length
  if (histogramsDenied > 0) staged.refuse(refusal(), histogramsDenied)
  for (const histogram of histograms) writers[used.partitions[histogram.ref]!]!.histogram(used, histogram)
  const exemplars = staged.exemplars.filter(({ ref }) => !denied.has(ref))
  for (const exemplar of exemplars) writers[used.partitions[exemplar.ref]!]!.exemplar(used, exemplar)
  for (const metadata of staged.metadata)
    partitions.metadataWriter(metadata.tenant, metadata.metric).metadata(used, metadata)
  for (const ref of denied) used.forget(ref)
  const written = { samplesWritten, histogramsWritten: histograms.length, exemplarsWritten: exemplars.length }
  return { written, commits: writers.map(commit) }
}

/** How many were written. */
function writeFloats(
  { staged, denied, used }: { staged: Staged; denied: ReadonlySet<number>; used: Dictionary },
  writers: readonly PartitionWriter[],
  refusal: () => Refusal,
): number {
  const { partitions } = used
  const { refs, times, words, startTimes, count } = staged
  const isAllIn = denied.size === 0
  let samplesWritten = 0
  for (let i = 0; i < count; i++) {
    const ref = refs[i]!
    if (!isAllIn && denied.has(ref)) {
      staged.refuse(refusal())
      continue
    }
    const startTime = startTimes === undefined ? 0 : startTimes[i]!
    writers[partitions[ref]!]!.float(used, ref, times[i]!, words, i, startTime)
    samplesWritten++
  }
  return samplesWritten
}

async function commit(writer: PartitionWriter): Promise<LogPosition | undefined> {
  const seq = await writer.commit()
  return seq === undefined ? undefined : { partition: writer.partition, incarnation: writer.incarnation, seq }
}
