// What a scrubber tells about itself.
import type { Clock } from '../../../shared/base/clock.ts'
import type { ScrubFinding, ScrubRecord } from '../../../shared/contracts/scrubbing.ts'
import type { Metrics } from '../../../shared/telemetry/metrics.ts'

export interface ScrubMeasures {
  read(store: 'first' | 'second', bytes: number): void
  block(outcome: 'sound' | 'damaged' | 'repaired'): void
  finding(finding: ScrubFinding): void
  copied(bytes: number): void
}

interface Sources {
  readonly records: () => Iterable<ScrubRecord>
  readonly clock: Clock
}

export function scrubMeasures(metrics: Metrics, { records, clock }: Sources): ScrubMeasures {
  const bytes = metrics.counter('carillon_scrub_read_bytes_total', 'Bytes that scrubs read, by store.', ['store'])
  const blocks = metrics.counter('carillon_scrub_blocks_total', 'Blocks that scrubs read, by how they were.', [
    'outcome',
  ])
  const findings = metrics.counter(
    'carillon_scrub_findings_total',
    'What scrubs found, by where, and what became of it.',
    ['what', 'state'],
  )
  const copied = metrics.counter('carillon_second_store_copied_bytes_total', 'Bytes copied into the second store.')
  metrics.gaugeOf(
    'carillon_scrub_damaged',
    'Damage that the last scrub found and nothing could repair, by tenant.',
    () => perTenant(({ findings: all }) => all.filter(({ state }) => state === 'damaged').length),
    ['tenant'],
  )
  metrics.gaugeOf(
    'carillon_scrub_age_seconds',
    'Time since everything of a tenant was last read.',
    () =>
      perTenant(({ endedAtMs, lastEndedAtMs, beganAtMs }) => {
        return Math.max(0, clock.now() - (endedAtMs ?? lastEndedAtMs ?? beganAtMs)) / 1000
      }),
    ['tenant'],
  )
  return {
    read: (store, count) => bytes.with({ store }).inc(count),
    block: (outcome) => blocks.with({ outcome }).inc(),
    finding: ({ what, state }) => findings.with({ what, state }).inc(),
    copied: (count) => copied.inc(count),
  }

  function perTenant(read: (record: ScrubRecord) => number) {
    return [...records()].map((record) => [{ tenant: record.tenant }, read(record)] as const)
  }
}
