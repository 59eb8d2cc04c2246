// What can be set about a querier.
import { bytes, type ConfigOf, defineSettings, duration, integer, list, text } from '../../shared/config/settings.ts'

export const querierSettings = defineSettings({
  lookbackMs: duration('5m', 'how far back an instant selector looks for a sample', { min: '1ms' }),
  queryTimeoutMs: duration('2m', 'time after which a query is given up', { min: '1ms' }),
  samplesMax: integer(50_000_000, 'samples that one query may hold in memory', { min: 1 }),
  seriesMax: integer(1_000_000, 'series that one query may read', { min: 1 }),
  queryBytesMax: bytes('2GiB', 'bytes that one query may read from owners', { min: '1KiB' }),
  blockBytesMax: bytes('4GiB', 'bytes of chunks that one query may read from blocks', { min: '1KiB' }),
  queryMemoryBytesMax: bytes('2GiB', 'memory that one query may take', { name: 'query-memory-max', min: '1MiB' }),
  querierMemoryBytesMax: bytes(
    '4GiB',
    'memory of a querier, of which queries take what its caches leave; never more than 3/4 of the machine’s',
    { name: 'querier-memory-max', min: '192MiB' },
  ),
  blockReadsMax: integer(16, 'blocks that one query reads at the same time', { min: 1 }),
  openBlocksMax: integer(2_000, 'blocks of all tenants that are kept open', { min: 1 }),
  openBlocksBytesMax: bytes('256MiB', 'memory of blocks that are kept open, and of what was found in them', {
    min: '1MiB',
  }),
  readCacheBytesMax: bytes('256MiB', 'memory for pieces of blocks that were read before'),
  readCacheFolder: text('', 'folder for more of them, in which each querier has its own by its id; none when empty'),
  readCacheFolderBytesMax: bytes('10GiB', 'bytes in that folder'),
  queryPartMs: duration('1d', 'aligned length of the parts that longer range queries are split into; 0s: never split'),
  partsAtOnceMax: integer(8, 'parts of one query that are evaluated at the same time', { min: 1 }),
  partCacheBytesMax: bytes('128MiB', 'memory for results of parts that were read from blocks alone; 0: none are kept'),
  defaultStepMs: duration('1m', 'step of a subquery that names none', { min: '1ms' }),
  stepsMax: integer(11_000, 'steps of a range query', { min: 1 }),
  queryRangeMaxMs: duration('0s', 'time between start and end of a query; 0s: any'),
  selectorsMax: integer(1_000, 'match[] parameters of one request', { min: 1 }),
  patternSizeMax: integer(
    20_000,
    'instructions that one regular expression of a query may compile to; texts and `.*` between them, however many, need none',
    { min: 100 },
  ),
  concurrentQueriesMax: integer(20, 'queries that run at the same time', { min: 1 }),
  queuedQueriesMax: integer(200, 'queries that wait for their turn; more are answered 429', { min: 0 }),
  tenantQueriesMax: integer(20, 'of these, queries of one tenant that run at the same time', { min: 1 }),
  tenantQueuedQueriesMax: integer(100, 'of these, queries of one tenant that wait for their turn', { min: 0 }),
  partitionAsksMax: integer(64, 'partitions that one query asks at the same time', { min: 1 }),
  ownerWaitMs: duration('5s', 'how long a strong read waits until owners have applied what was written', {
    min: '1ms',
  }),
  hedgeAfterMs: duration('500ms', 'silence of an owner after which another owner is asked as well', { min: '1ms' }),
  ownerTimeoutMs: duration('20s', 'silence of an owner after which it counts as failed', { min: '1ms' }),
  enableFeature: list([], 'features of PromQL that are off unless named here'),
})

export type QuerierConfig = ConfigOf<typeof querierSettings>

/** Queriers make an object per row of an answer, and have larger young generations where they are given memory (docs/decisions/0012). */
const roomy = { bytesMin: 1024 * 1024 * 1024, youngMb: 16 }

/** How queriers get memory: large buffers come from the system, and go back to it when they are freed (docs/decisions/0020). */
const allocatorEnv = {
  MALLOC_ARENA_MAX: '2',
  MALLOC_MMAP_THRESHOLD_: '65536',
  MALLOC_TRIM_THRESHOLD_: '1048576',
}

/** How the process of a querier is run: megabytes of its young generation where they are not as usual, variables unless they are set. */
export function querierProcess({ querierMemoryBytesMax }: Pick<QuerierConfig, 'querierMemoryBytesMax'>) {
  return { env: allocatorEnv, ...(querierMemoryBytesMax >= roomy.bytesMin && { youngMb: roomy.youngMb }) }
}
