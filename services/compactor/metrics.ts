// What a compactor tells about itself.
import type { CompactionStep } from '../../shared/contracts/compaction.ts'
import type { Metrics } from '../../shared/telemetry/metrics.ts'
import type { BlockCount, MergeReport } from './worker/merge-job.ts'

export interface CompactorMeasures {
  step(step: CompactionStep): void
  merged(report: MergeReport): void
  checked(count: BlockCount): void
  damaged(): void
  deleted(kind: 'retired' | 'garbage', blocks: number): void
  leaseLost(): void
  uploaded(outcome: 'complete' | 'failed'): void
}

const STEP_SECONDS = [0.1, 0.5, 1, 5, 15, 60, 300, 900, 3600]

export function compactorMeasures(metrics: Metrics): CompactorMeasures {
  const steps = metrics.counter('carillon_compactor_steps_total', 'Steps of compaction, by kind and outcome.', [
    'why',
    'outcome',
  ])
  const seconds = metrics.histogram(
    'carillon_compactor_step_seconds',
    'Time that steps of compaction took.',
    STEP_SECONDS,
    ['why'],
  )
  const samples = metrics.counter(
    'carillon_compactor_samples_total',
    'Samples that merges read, by what became of them.',
    ['fate'],
  )
  const chunks = metrics.counter('carillon_compactor_chunks_total', 'Chunks that merges read, by how.', ['how'])
  const bytesIn = metrics.counter('carillon_compactor_read_bytes_total', 'Bytes of blocks that were merged.')
  const bytesOut = metrics.counter('carillon_compactor_written_bytes_total', 'Bytes of blocks that merges wrote.')
  const cpu = metrics.counter(
    'carillon_compactor_cpu_seconds_total',
    'CPU time of merging threads, by what they did.',
    ['what'],
  )
  const damaged = metrics.counter(
    'carillon_compactor_damaged_blocks_total',
    'Blocks set aside because they are damaged.',
  )
  const deleted = metrics.counter('carillon_compactor_deleted_blocks_total', 'Blocks whose objects were deleted.', [
    'kind',
  ])
  const leases = metrics.counter(
    'carillon_compactor_leases_lost_total',
    'Leases that were lost while work was under way.',
  )
  const uploads = metrics.counter('carillon_compactor_uploads_total', 'Uploaded blocks, by what came of them.', [
    'outcome',
  ])

  return {
    step({ why, outcome, tookMs = 0, bytesIn: read, bytesOut: written }) {
      steps.with({ why, outcome: outcome ?? 'done' }).inc()
      seconds.with({ why }).observe(tookMs / 1000)
      if (outcome === 'done') bytesIn.inc(read)
      bytesOut.inc(written)
    },
    merged(report) {
      samples.with({ fate: 'kept' }).inc(report.samplesIn - report.duplicates - report.removed)
      samples.with({ fate: 'duplicate' }).inc(report.duplicates)
      samples.with({ fate: 'removed' }).inc(report.removed)
      chunks.with({ how: 'passed' }).inc(report.chunksPassed)
      chunks.with({ how: 'decoded' }).inc(report.chunksIn - report.chunksPassed)
      cpu.with({ what: 'merge' }).inc(report.cpuSeconds)
    },
    checked: ({ cpuSeconds }) => cpu.with({ what: 'read back' }).inc(cpuSeconds),
    damaged: () => damaged.inc(),
    deleted: (kind, blocks) => deleted.with({ kind }).inc(blocks),
    leaseLost: () => leases.inc(),
    uploaded: (outcome) => uploads.with({ outcome }).inc(),
  }
}
