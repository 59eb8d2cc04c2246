// Settings of the gateway.
import {
  bytes,
  type ConfigOf,
  defineSettings,
  duration,
  flag,
  integer,
  list,
  text,
} from '../../shared/config/settings.ts'

export const gatewaySettings = defineSettings({
  listen: text('127.0.0.1:9009', 'address of the HTTP door; port 0 picks a free one', {
    wants: 'host:port, [IPv6]:port or :port for every interface',
  }),
  requireTenant: flag(false, 'refuse requests without X-Scope-OrgID instead of taking them as tenant "anonymous"'),
  authFile: text(
    '',
    'YAML file of users and tokens with their tenants and rights; read again when it changes, at once by SIGHUP',
  ),
  allowUnauthenticated: flag(false, 'listen beyond loopback although no --auth-file says who may come in'),
  allowedHosts: list(
    [],
    'names by which browsers may find the door; a loopback door without --auth-file is else found by names of this machine alone',
    {
      wants: 'host names without port, separated by commas',
      isSound: (host) => /^[A-Za-z0-9._-]+$|^\[[0-9A-Fa-f:.]+\]$/.test(host),
    },
  ),
  corsOrigin: list(
    [],
    'origins whose pages may read answers of the query API, such as https://grafana.example; * for all',
    {
      wants: 'origins such as https://grafana.example, separated by commas, or *',
      isSound: (origin) => origin === '*' || (URL.canParse(origin) && new URL(origin).origin === origin.toLowerCase()),
    },
  ),
  requirePowerSafe: flag(false, 'refuse writes unless the server keeps acknowledged messages through a power cut'),
  bodyBytesMax: bytes('100MiB', 'largest remote_write body as it travels, compressed', { min: '1KiB', max: '127MiB' }),
  decodedBytesMax: bytes('32MiB', 'largest size that a remote_write body may declare to have when decompressed', {
    min: '1KiB',
    max: '1GiB',
  }),
  formBytesMax: bytes('10MB', 'largest POST form of a query', { min: '1KiB', max: '10MiB' }),
  headersTimeoutMs: duration('10s', 'time to send the headers of a request, then 408', { min: '10ms' }),
  requestTimeoutMs: duration('60s', 'time to send a whole request, then 408', { min: '10ms' }),
  keepAliveTimeoutMs: duration('75s', 'time an idle connection is kept', { min: '10ms' }),
  headerBytesMax: bytes('1MiB', 'largest header section of a request, its URL included, then 431', {
    min: '1KiB',
    max: '1MiB',
  }),
  connectionsMax: integer(4096, 'open connections; more are closed at once', { min: 1 }),
  addressConnectionsMax: integer(
    1024,
    'open connections of one address, and at most three quarters of all; more are closed at once',
    { min: 1 },
  ),
  failedLoginsMax: integer(10, 'wrong passwords of one address: so many at once, and so many a minute; then 503', {
    min: 1,
  }),
  pushesInFlightMax: integer(512, 'pushes being taken in at the same time, then 503', { min: 1 }),
  pushesInFlightBytesMax: bytes('256MiB', 'bytes of all bodies being taken in, then 503', { min: '1KiB' }),
  queriesInFlightMax: integer(256, 'queries being answered at the same time, then 503', { min: 1 }),
  answersInFlightBytesMax: bytes('1GiB', 'bytes of all answers being read by clients, then 503', { min: '1KiB' }),
  answerStallMs: duration('60s', 'time without progress after which a client that does not read its answer is cut', {
    min: '100ms',
  }),
  tenantInFlightMax: integer(384, 'pushes, and queries, of one tenant at the same time, then 503', { min: 1 }),
  uploadBytesMax: bytes('64GiB', 'largest block that may be uploaded, all of its files together', { min: '1KiB' }),
  uploadsOpenMax: integer(64, 'uploads of one tenant that are not finished; more get 429', { min: 1, max: 10_000 }),
  uploadStagedBytesMax: bytes('128GiB', 'bytes of all uploads of one tenant that are not finished; more get 429', {
    min: '1KiB',
  }),
  uploadRequestsInFlightMax: integer(16, 'files of uploads being taken in at the same time, then 503', { min: 1 }),
  blockReadsInFlightMax: integer(16, 'files of blocks being handed out at the same time, then 503', { min: 1 }),
  membersTimeoutMs: duration('2s', 'time that members have to answer for /metrics and the status pages', {
    min: '10ms',
  }),
  durabilityCheckMs: duration('1m', 'how often the server is asked whether it syncs every write', { min: '100ms' }),
  drainMs: duration('10s', 'time that requests in flight have when the gateway stops'),
})

export type GatewayConfig = ConfigOf<typeof gatewaySettings>
