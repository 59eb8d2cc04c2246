// What can be set about a compactor.
import { labelSettings } from '../../shared/config/common.ts'
import {
  bytes,
  type ConfigOf,
  defineSettings,
  duration,
  flag,
  integer,
  number,
  text,
} from '../../shared/config/settings.ts'

export const compactorSettings = defineSettings({
  compactEveryMs: duration('1m', 'how often a compactor looks for something to do', { min: '10ms' }),
  compactDelayMs: duration('1h', 'time after the end of a range, until its blocks are merged: longer than a segment', {
    min: '0ms',
  }),
  leaseMs: duration('30s', 'silence after which another compactor may take over a tenant', { min: '100ms' }),
  lateRatio: number(0.25, 'how large late blocks must be together, beside the one they are merged with', {
    min: 0.01,
    max: 1,
  }),
  mergeSourcesMax: integer(64, 'blocks that one merge reads', { min: 2, max: 512 }),
  mergeBytesMax: bytes('32GiB', 'bytes of all blocks that one merge reads', { min: '1MiB' }),
  mergeHeapBytesMax: bytes('768MiB', 'heap of the thread that merges', { min: '64MiB' }),
  undoMs: duration('1d', 'how long a deletion can be taken back; its samples are removed after that', {
    name: 'delete-undo',
  }),
  retiredDelayMs: duration('1h', 'how long replaced blocks stay for queries that still read them', { min: '0ms' }),
  orphanGraceMs: duration('1d', 'age at which files that belong to no block are deleted', { min: '0ms' }),
  sweepEveryMs: duration('6h', 'how often the store is searched for files that belong to no block', { min: '10ms' }),
  damagedRetryMs: duration('1h', 'time after which a block that was set aside as damaged is tried again', {
    min: '1s',
  }),
  scrubEveryMs: duration('7d', 'how often everything that is stored is read again; 0: only when asked', { min: '0ms' }),
  scrubBytesPerSecond: bytes('8MiB', 'bytes per second that scrubbing and copying read', { min: '1KiB' }),
  secondStore: text('', 'directory:PATH of a second store: blocks are compared with it and repaired from it'),
  secondStoreFill: flag(true, 'copy new blocks and manifests into the second store'),
  secondStoreEveryMs: duration('1m', 'how often the second store is filled', { min: '10ms' }),
  secondStoreKeepMs: duration('7d', 'how long the second store keeps blocks that are not listed any more', {
    min: '0ms',
  }),
  keepMs: duration('0', 'how long samples are kept; 0: for ever', { name: 'retention' }),
  keepBytesMax: bytes('0B', 'size of all blocks of a tenant, above which the oldest go; 0: no bound', {
    name: 'retention-bytes',
  }),
  downsample: flag(false, 'add windows of 5 m after 40 h, and of 1 h after 10 d'),
  uploadKeepMs: duration('1d', 'time after which an upload that nobody finished, or the outcome of one, is forgotten', {
    min: '1s',
  }),
  uploadsValidatingMax: integer(1, 'uploaded blocks that are validated at the same time', { min: 1, max: 16 }),
  uploadValidateMs: duration('2h', 'time after which an uploaded block that is still being validated is refused', {
    min: '100ms',
  }),
  ...labelSettings,
  policyFile: text('', 'YAML file: retention, its rules and downsampling of single tenants'),
})

export type CompactorConfig = ConfigOf<typeof compactorSettings>
