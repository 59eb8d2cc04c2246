// The settings of the launcher itself; what it passes on to actors stands in their own tables.
import { commonSettings, logSettings } from '../../shared/config/common.ts'
import {
  type ConfigOf,
  choice,
  defineSettings,
  duration,
  flag,
  integer,
  text,
  withDefaults,
} from '../../shared/config/settings.ts'

const actorCount = { min: 0, max: 64 }

export const launcherSettings = defineSettings({
  dataDir: text('./data', 'folder of everything that is kept: the logs, and who runs on them', { name: 'data' }),
  natsServer: text('', 'path of the nats-server to start (2.12 or newer); else PATH, else the project builds one'),
  output: choice(['text', 'json'], 'text', 'what `start` prints when it is ready: lines for people, or one JSON line'),
  gateways: integer(1, 'gateways to run; each further one listens on the next port', actorCount),
  distributors: integer(1, 'distributors to run', actorCount),
  ingesters: integer(1, 'ingesters to run', actorCount),
  queriers: integer(1, 'queriers to run', actorCount),
  compactors: integer(1, 'compactors to run', actorCount),
  stopWaitMs: duration('15s', 'how long an actor may take to finish its work before it is killed', { min: '100ms' }),
})

export type LauncherConfig = ConfigOf<typeof launcherSettings>

/** What `start` and `cluster` read, and where the two differ. */
export const oneServer = { launcher: launcherSettings, common: commonSettings, logs: logSettings }
export const threeServers = {
  launcher: withDefaults(launcherSettings, { ingesters: 3, distributors: 2, gateways: 2, queriers: 2, compactors: 2 }),
  common: withDefaults(commonSettings, { replicationFactor: 3 }),
  logs: withDefaults(logSettings, { logReplicas: 3 }),
}

/** Where commands find the system that they ask. */
export const foundSettings = defineSettings({
  dataDir: text('./data', 'without --nats: the data folder of the running start that is asked', { name: 'data' }),
})

export const ringSettings = defineSettings({
  output: choice(['text', 'json'], 'text', 'what `ring` prints: tables for people, or one JSON line'),
})

export const compactSettings = defineSettings({
  status: flag(false, 'show what compactors do and did'),
  now: flag(false, 'merge what can be merged, complete ranges or not'),
  tenant: text('', 'only this tenant'),
  output: choice(['text', 'json'], 'text', 'tables for people, or one JSON line'),
})

export const limitsSettings = defineSettings({
  tenant: text('', 'whose limits; of all tenants without a value of their own when empty'),
  by: text('carillon limits', 'who changes them, for the history'),
  output: choice(['text', 'json'], 'text', 'tables for people, or one JSON line'),
})

export const scrubSettings = defineSettings({
  status: flag(false, 'show what was found when everything was last read'),
  now: flag(false, 'read everything now'),
  tenant: text('', 'only this tenant'),
  output: choice(['text', 'json'], 'text', 'tables for people, or one JSON line'),
})

export const flushSettings = defineSettings({
  waitMs: duration('6m', 'how long `mark` and `flush` wait until it is done: longer than --segment-min', {
    min: '0ms',
    max: '15m',
  }),
})

export const partitionsSettings = defineSettings({
  waitMs: duration('2m', 'how long `partitions add` waits until the new ones take series', { min: '1s' }),
})
