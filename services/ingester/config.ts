// The ingester's settings.
import { bytes, type ConfigOf, defineSettings, duration } from '../../shared/config/settings.ts'

export const ingesterSettings = defineSettings({
  segmentMs: duration('30m', 'how long a segment of a log grows before its leader opens the next', { min: '100ms' }),
  segmentMinMs: duration('5m', 'how long a segment lasts at least; a late batch may be acknowledged that long', {
    min: '50ms',
  }),
  segmentBytesMax: bytes('1GiB', 'bytes of log after which a leader opens the next segment (never before segment-min)'),
  memoryBytesMax: bytes(
    '4GiB',
    'bytes of heads one ingester holds; near it new series are refused, at it writes get 503',
  ),
  endReadMs: duration('1s', 'how often the end of each owned log is read'),
  staleAfterMs: duration('15s', 'an owner that has not reached an end read this recently does not answer'),
  checkpointMs: duration('10s', 'how often the newest applied message is written down with its checksum'),
  handOverMs: duration(
    '5m',
    'how long an ingester that was told to stop serves on while others catch up with its partitions',
  ),
  releaseAfterMs: duration(
    '5s',
    'how long a partition is served on after all its new owners have said that they hold it: until queriers have heard of them',
  ),
  flushMs: duration('1s', 'how often it is looked whether a closed segment is to be flushed, purged or dropped', {
    min: '10ms',
  }),
  flushPatienceMs: duration(
    '2m',
    'how long the flush of others waits for a tenant whose segment cannot be brought into blocks, before it is set aside',
  ),
  dropAfterMs: duration('1m', 'how long a segment stays in memory after it was seen to be in blocks'),
  countedMs: duration('2s', 'how often an ingester tells how many series and bytes it holds'),
})

export type IngesterConfig = ConfigOf<typeof ingesterSettings>
