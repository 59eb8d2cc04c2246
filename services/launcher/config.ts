// The settings of the launcher itself; how many actors it runs stands in the table of roles, what it passes on to them in their own tables.
import { type ConfigOf, choice, defineSettings, duration, flag, text } from '../../shared/config/settings.ts'

export const launcherSettings = defineSettings({
  dataDir: text('./data', 'folder of everything that is kept: the logs, and who runs on them', { name: 'data' }),
  natsServer: text('', 'path of the nats-server to start (2.12 or newer); else PATH, else the project builds one'),
  output: choice(['text', 'json'], 'text', 'what `start` prints when it is ready: lines for people, or one JSON line'),
  stopWaitMs: duration('15s', 'how long an actor may take to finish its work before it is killed', { min: '100ms' }),
})

export type LauncherConfig = ConfigOf<typeof launcherSettings>

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
