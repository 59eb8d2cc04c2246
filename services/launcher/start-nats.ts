// The nats-servers that the launcher runs: one, or a cluster of one per zone.
import { systemClock } from '../../shared/base/clock.ts'
import { systemRandom } from '../../shared/base/random.ts'
import type { Log } from '../../shared/telemetry/log.ts'
import type { NatsReach } from './connect.ts'
import type { Guard } from './guard.ts'
import { findNatsServer } from './nats-binary.ts'
import { type NatsFolder, natsAnswers, prepareNatsFolders } from './nats-server.ts'
import { SetupError } from './setup-error.ts'
import { type Supervisor, supervise } from './supervisor.ts'

const stopWaitMs = 60_000

export interface StartNatsOptions {
  readonly dataFolder: string
  readonly zones: readonly string[]
  /** Path of the nats-server, '' to look for one. */
  readonly binary: string
  /** A server that ends this often before it ever answered will not get better by itself. */
  readonly failedStartsMax: number
  readonly log: Log
  readonly guard: Guard
  readonly say: (line: string) => void
  readonly signal: AbortSignal
}

export interface NatsServers {
  readonly reach: NatsReach
  readonly servers: readonly Supervisor[]
}

/** Resolves when all of them answer; rejects, and leaves none running, when one does not. */
export async function startNatsServers(options: StartNatsOptions): Promise<NatsServers> {
  const { say, signal } = options
  const binary = await findNatsServer({ given: options.binary, say })
  const folders = await prepareNatsFolders(options.dataFolder, options.zones, systemRandom, say)
  const started = folders.map((folder) => startServer(binary.path, folder, options))
  const answers = await Promise.all(
    started.map(({ folder, isHopeless }) => natsAnswers(folder.port, () => !isHopeless() && !signal.aborted, say)),
  )
  const silent = started[answers.indexOf(false)]
  if (silent !== undefined) {
    for (const { server } of started) server.kill()
    const { folder } = silent
    throw new SetupError(1, `${binary.path} does not start on ${folder.folder}. Its last words:\n${folder.lastWords()}`)
  }
  return {
    reach: {
      nats: folders.map(({ url }) => url).join(),
      natsUserFile: folders[0]?.userFile ?? '',
      natsSystemFile: folders[0]?.systemUserFile ?? '',
    },
    servers: started.map(({ server }) => server),
  }
}

export async function stopNatsServers(servers: readonly Supervisor[]): Promise<void> {
  await Promise.all(servers.map((server) => server.stop(stopWaitMs)))
}

interface Started {
  readonly folder: NatsFolder
  readonly server: Supervisor
  readonly isHopeless: () => boolean
}

function startServer(file: string, folder: NatsFolder, { log, guard, failedStartsMax }: StartNatsOptions): Started {
  let isHopeless = false
  const server = supervise(
    {
      role: 'nats-server',
      id: folder.id,
      file,
      args: folder.args,
      cwd: folder.folder,
      env: process.env,
      hasChannel: false,
    },
    {
      clock: systemClock,
      random: systemRandom,
      log,
      guard,
      onStarted: folder.setRunning,
      onEnd: ({ endCount }) => {
        if (endCount >= failedStartsMax) isHopeless = true
      },
    },
  )
  return { folder, server, isHopeless: () => isHopeless }
}
