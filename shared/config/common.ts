// The settings that several services share: how to reach NATS, who one is, and the shape of the log.
import { bytes, type ConfigOf, choice, defineSettings, duration, integer, list, text } from './settings.ts'

const named = {
  wants: 'letters, digits, - and _, at most 64',
  isSound: (given: string): boolean => /^[A-Za-z0-9_-]{1,64}$/.test(given),
}

function areAddresses(given: string): boolean {
  const addresses = given.split(',').map((address) => address.trim())
  return addresses.every((address) => URL.canParse(address.includes('://') ? address : `nats://${address}`))
}

/** Every actor. */
export const commonSettings = defineSettings({
  nats: text(
    '',
    'address of the nats-server, nats://host:4222, several separated by commas; `start` runs its own when there is none',
    { wants: 'addresses such as nats://host:4222, separated by commas', isSound: areAddresses },
  ),
  natsUserFile: text('', 'file with "user:password" for those nats-servers; `start` makes one for its own'),
  natsSystemFile: text(
    '',
    'file with "user:password" of a system account user, to ask the server whether it syncs every write',
  ),
  prefix: text('cln', 'first token of every subject, and first part of every stream and bucket name', named),
  id: text('', 'name of this actor among those of its role; made up when there is none', named),
  zone: text('', 'failure domain of this actor: copies of a partition are spread over zones'),
  objects: choice(
    ['jetstream', 'directory'],
    'jetstream',
    'where blocks are kept: in the nats-servers, or in a folder that every actor sees',
  ),
  objectsDir: text('', 'folder of the blocks, with --objects=directory; `start` takes one in its data folder'),
  heartbeatMs: duration('5s', 'how often an actor says that it lives', { min: '50ms', max: '1m' }),
  unhealthyAfterMs: duration(
    '15s',
    'silence after which an actor is asked no more and its partitions get other owners',
    { min: '100ms' },
  ),
  forgetAfterMs: duration('10m', 'silence after which the record of an actor is deleted', {
    min: '200ms',
  }),
  partitions: integer(
    1,
    'number of partition logs; few on one machine, because each acknowledged batch costs a disk sync',
    {
      min: 1,
      max: 1024,
    },
  ),
  replicationFactor: integer(1, 'owners per partition: ingesters that hold the same recent data', { min: 1, max: 7 }),
  segmentMs: duration('30m', 'length of a log segment: how often the leader of a partition writes a mark', {
    min: '1s',
  }),
  segmentMinMs: duration(
    '5m',
    'least time between two marks: a batch that takes longer to be stored may have to be written again',
    {
      min: '200ms',
    },
  ),
  segmentBytesMax: bytes('1GiB', 'log bytes after which a segment ends early', { min: '64KiB' }),
  enableFeature: list([], 'features that are off unless named here'),
  logLevel: choice(['debug', 'info', 'warn', 'error'], 'info', 'least level of the log lines on stderr'),
  logFormat: choice(
    ['auto', 'text', 'json'],
    'auto',
    'how they look: lines for people, JSON for programs, or by whether stderr is a terminal',
  ),
})

/** What is let in, by a push or in a block. */
export const labelSettings = defineSettings({
  labelNamesPerSeriesMax: integer(30, 'limit: labels of one series', { min: 1 }),
  labelNameBytesMax: integer(1024, 'limit: bytes of a label name', { min: 1 }),
  labelValueBytesMax: integer(2048, 'limit: bytes of a label value', { min: 1 }),
  futureMs: duration('10m', 'limit: how far ahead of now a sample may lie'),
})

const BEATS_MIN = 3

/** What is wrong with times that are sound one by one. */
export function beatFaults(config: Pick<CommonConfig, 'heartbeatMs' | 'unhealthyAfterMs' | 'forgetAfterMs'>): string[] {
  const { heartbeatMs, unhealthyAfterMs, forgetAfterMs } = config
  const faults: string[] = []
  if (unhealthyAfterMs < BEATS_MIN * heartbeatMs) {
    const lost = 'one or two heartbeats that are late would take an actor out of the ring'
    faults.push(
      `--unhealthy-after is ${unhealthyAfterMs} ms, less than ${BEATS_MIN} times --heartbeat (${heartbeatMs} ms): ${lost}; set it to ${BEATS_MIN * heartbeatMs}ms or more`,
    )
  }
  if (forgetAfterMs < unhealthyAfterMs)
    faults.push(`--forget-after is ${forgetAfterMs} ms, less than --unhealthy-after (${unhealthyAfterMs} ms)`)
  return faults
}

/** Whoever creates the logs: `start` and `setup`. */
export const logSettings = defineSettings({
  logBytesMax: bytes('8GiB', 'size limit of each partition log; a full log refuses writes, it drops nothing', {
    min: '1MiB',
  }),
  logReplicas: integer(1, 'nats-servers that keep a copy of each log and each block: 3 on a cluster', {
    min: 1,
    max: 5,
  }),
  objectsBytesMax: bytes(
    '0',
    'size limit of each bucket of blocks, one for 28 days of samples, reserved in the nats-server; 0: only what the server itself allows',
  ),
})

export type CommonConfig = ConfigOf<typeof commonSettings>
export type LogSettings = ConfigOf<typeof logSettings>
