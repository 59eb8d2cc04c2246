// The distributor's settings.
import { labelSettings } from '../../shared/config/common.ts'
import {
  bytes,
  type ConfigOf,
  defineSettings,
  duration,
  flag,
  integer,
  list,
  number,
  text,
} from '../../shared/config/settings.ts'
import { FILL_SHARES } from '../../shared/contracts/log.ts'

export const distributorSettings = defineSettings({
  lingerMs: duration('5ms', 'how long a batch waits for other pushes before it is appended'),
  batchBytesMax: bytes('256KiB', 'size at which a batch is appended at once', { min: '4KiB', max: '448KiB' }),
  batchesInFlightMax: integer(2, 'appends in flight per partition; more wait and are grouped', { min: 1, max: 64 }),
  queuedBytesMax: bytes('64MiB', 'bytes that wait to be appended in one distributor; above it pushes get 503'),
  appendTimeoutMs: duration(
    '2s',
    'how long one append may take before it is repeated with the same message id; a log without a leader does not answer',
  ),
  pushTimeoutMs: duration('20s', 'how long a push waits for its acknowledgement before it gets 503'),
  logFullRatio: number(0.8, 'share of a log that may be filled by batches; above it pushes get 503', {
    min: 0.1,
    max: FILL_SHARES.batch,
  }),
  highWaterMs: duration('5s', 'how often the newest stored batch of each session is written down'),
  decodedBytesMax: bytes('32MiB', 'limit: declared size of a decompressed body'),
  ...labelSettings,
  metadataBytesMax: integer(1024, 'limit: bytes of a metric name, help or unit in metadata; a longer help is cut', {
    min: 1,
  }),
  histogramBytesMax: bytes('16KiB', 'limit: encoded size of one native histogram sample'),
  samplesPerSecondMax: number(2_000_000, 'limit: samples per second and tenant, over all distributors', { min: 0 }),
  samplesBurstMax: integer(10_000_000, 'limit: samples that a tenant may send at once beyond its rate', { min: 1 }),
  seriesPerTenantMax: integer(5_000_000, 'limit: series in memory per tenant', { min: 1 }),
  pastMs: duration('0s', 'limit: how far behind now a sample may lie; 0 is no limit'),
  startTimestamps: flag(
    false,
    'keep the start timestamps of samples that remote write 2.0 tells; only when no process is older than this setting',
  ),
  dictionarySeriesMax: integer(
    4_000_000,
    'series that one distributor remembers; beyond it the dictionary starts afresh',
    { min: 1000 },
  ),
  haClusterLabel: text('cluster', 'label that names the cluster of an HA pair; empty: no elections'),
  haTenantLabels: list(
    [],
    'other labels for single tenants: tenant=cluster:replica; without names (tenant=:) no elections for it',
  ),
  haReplicaLabel: text('__replica__', 'label that names the replica; not stored where the cluster is named, too'),
  haRenewMs: duration('10s', 'age at which an election is renewed, at the next push of the elected replica', {
    min: '10ms',
  }),
  haKvGraceMs: duration(
    '15s',
    'how long after the start of its last renewal an election is believed; then pushes get 503',
    {
      min: '10ms',
    },
  ),
  haTakeoverMs: duration('30s', 'silence after which another replica takes over; more than two scrape intervals', {
    min: '10ms',
  }),
  haIdleMs: duration('30m', 'silence of all replicas after which an election is deleted', { min: '1s' }),
  haClustersMax: integer(100, 'limit: elections per tenant', { min: 0 }),
})

export type DistributorConfig = ConfigOf<typeof distributorSettings>
