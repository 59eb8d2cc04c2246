// The settings of the launcher itself; how many actors it runs stands in the table of roles, what it passes on to them in their own tables.
import { type ConfigOf, choice, defineSettings, duration, text } from '../../shared/config/settings.ts'

export const launcherSettings = defineSettings({
  dataDir: text('./data', 'folder of everything that is kept: the logs, and who runs on them', { name: 'data' }),
  natsServer: text('', 'path of the nats-server to start (2.12 or newer); else PATH, else the project builds one'),
  output: choice(['text', 'json'], 'text', 'what `start` prints when it is ready: lines for people, or one JSON line'),
  stopWaitMs: duration('15s', 'how long an actor may take to finish its work before it is killed', { min: '100ms' }),
})

export type LauncherConfig = ConfigOf<typeof launcherSettings>
