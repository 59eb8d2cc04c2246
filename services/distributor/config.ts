// The distributor's settings.
import { bytes, type ConfigOf, defineSettings, duration, integer, number } from '../../shared/config/settings.ts'

export const distributorSettings = defineSettings({
  lingerMs: duration('5ms', 'how long a batch waits for other pushes before it is appended'),
  batchBytesMax: bytes('256KiB', 'size at which a batch is appended at once', { min: '4KiB', max: '448KiB' }),
  batchesInFlightMax: integer(2, 'appends in flight per partition; more wait and are grouped', { min: 1, max: 64 }),
  queuedBytesMax: bytes('64MiB', 'bytes that wait to be appended in one distributor; above it pushes get 503'),
  appendTimeoutMs: duration('5s', 'how long one append may take before it is repeated with the same message id'),
  pushTimeoutMs: duration('20s', 'how long a push waits for its acknowledgement before it gets 503'),
  logFullRatio: number(0.8, 'share of a log that may be filled by batches; above it pushes get 503', {
    min: 0.1,
    max: 1,
  }),
  highWaterMs: duration('5s', 'how often the newest stored batch of each session is written down'),
  decodedBytesMax: bytes('32MiB', 'limit: declared size of a decompressed body'),
  labelNamesPerSeriesMax: integer(30, 'limit: labels of one series', { min: 1 }),
  labelNameBytesMax: integer(1024, 'limit: bytes of a label name', { min: 1 }),
  labelValueBytesMax: integer(2048, 'limit: bytes of a label value', { min: 1 }),
  metadataBytesMax: integer(1024, 'limit: bytes of a metric name, help or unit in metadata; a longer help is cut', {
    min: 1,
  }),
  histogramBytesMax: bytes('16KiB', 'limit: encoded size of one native histogram sample'),
  samplesPerSecondMax: number(2_000_000, 'limit: samples per second and tenant, over all distributors', { min: 0 }),
  samplesBurstMax: integer(10_000_000, 'limit: samples that a tenant may send at once beyond its rate', { min: 1 }),
  seriesPerTenantMax: integer(5_000_000, 'limit: series in memory per tenant', { min: 1 }),
  futureMs: duration('10m', 'limit: how far ahead of now a sample may lie'),
  pastMs: duration('0s', 'limit: how far behind now a sample may lie; 0 is no limit'),
  dictionarySeriesMax: integer(
    4_000_000,
    'series that one distributor remembers; beyond it the dictionary starts afresh',
    { min: 1000 },
  ),
})

export type DistributorConfig = ConfigOf<typeof distributorSettings>
