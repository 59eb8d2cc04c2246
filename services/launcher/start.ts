// `carillon start` and `carillon cluster`: the whole system on one machine. A nats-server, or three of them, what has to exist in it,
// and one process per actor.
//
// Invariants
//   START-1  Every process is a child of this one; actors end by themselves when it dies (their channel closes).
//   START-2  Stopping goes against the stream: gateways first, then those they ask, the nats-servers last. Starting goes the other way.
//   START-3  One ready line on stdout and nothing else there; everything that happens goes to stderr.
import path from 'node:path'
import { sleep, systemClock } from '../../shared/base/clock.ts'
import { textOf } from '../../shared/base/errors.ts'
import { systemRandom } from '../../shared/base/random.ts'
import type { ServerFacts } from '../../shared/bus/port.ts'
import type { CommonConfig, LogSettings } from '../../shared/config/common.ts'
import type { Role } from '../../shared/contracts/member.ts'
import { createLog, type Log } from '../../shared/telemetry/log.ts'
import type { LauncherConfig } from './config.ts'
import { type DataFolder, openDataFolder } from './data-folder.ts'
import { type Guard, startGuard } from './guard.ts'
import { onHangUp } from './hang-up.ts'
import { isPortFree, noZone } from './nats-server.ts'
import { type ReadyFacts, type ReadyProcess, readyLine, readyText } from './ready.ts'
import { setUpLogs } from './set-up-logs.ts'
import { SetupError } from './setup-error.ts'
import { type NatsServers, startNatsServers, stopNatsServers } from './start-nats.ts'
import { type Supervisor, supervise } from './supervisor.ts'

/** How V8 keeps the heaps of actors (docs/decisions/0012): small young generations, and old ones that may grow before they are collected. */
const YOUNG_MB = 4

const mainFile = path.resolve(import.meta.dirname, '../main.ts')
/** A loop that stands for twice as long as any query may take answers nobody: its actor hangs. */
const hungMsMin = 10_000
/** An actor that ends this often before it was ever ready will not get better by itself. */
const failedStartsMax = 5
/** Whoever reads only the first line of what is said at the end of a start (`| head -1`) is gone after that. */
const READ_ON_MS = 100
/** Two signals closer than this are one: a terminal and a parent both pass Ctrl-C on. */
const signalGapMs = 500

export interface StartOptions {
  readonly launcher: LauncherConfig
  readonly common: CommonConfig
  readonly logs: LogSettings
  /** One nats-server in each, and actors in each by turns; `['']` for one server and no zones. */
  readonly zones: readonly string[]
  readonly queryTimeoutMs: number
  /** Who asks before whom it asks: stopped in this order, started in the reverse. */
  readonly roles: readonly LaunchedRole[]
}

/** The actors of one role that are run here. */
export interface LaunchedRole {
  readonly role: Role
  readonly count: number
  /** `host:port` of the first one; '' where they do not listen. */
  readonly listen: string
  /** Writes and queries work nowhere without one. */
  readonly isNeeded: boolean
  readonly process: ProcessNeeds
  /** The flags that give an actor of this role its config, but for --nats, --id, --listen. */
  readonly flags: readonly string[]
}

/** What is not as usual about the process of an actor. */
export interface ProcessNeeds {
  /** Megabytes of the young generation of its heap. */
  readonly youngMb?: number
  /** Variables, unless they are set. */
  readonly env?: NodeJS.ProcessEnv
}

/** Resolves with the exit code when everything has ended. Rejects with SetupError when it cannot start. */
export async function start(options: StartOptions): Promise<number> {
  const stopping = stopSignals()
  const { logLevel: level, logFormat: format } = options.common
  const log = createLog({ role: 'launcher', id: 'launcher', level, format, onLost: () => stopping.ask(1) })
  await checkListen(options)
  const folder = openDataFolder(options.launcher.dataDir)
  const guard = startGuard({ clock: systemClock, log })
  const children: Supervisor[] = []
  let nats: NatsServers | undefined
  const reload = () => {
    for (const child of children) child.reload()
  }
  onHangUp({ reload, stop: () => stopping.ask(0) })
  try {
    if (folder.wasKilled) say(`the last run on ${folder.path} was not stopped cleanly; going on from what it left`)
    nats = await startNats(options, folder, { log, guard, stopping })
    const facts = await setUpLogs({
      common: { ...options.common, ...nats.reach },
      logs: options.logs,
      log,
      signal: stopping.signal,
    })
    const actors = await startActors({
      options: { ...options, dataPath: folder.path },
      nats,
      children,
      log,
      guard,
      stopping,
    })
    await announce(options, folder, nats, facts, actors)
    return await stopping.exitCode
  } catch (error) {
    if (!stopping.signal.aborted) throw error
    return await stopping.exitCode
  } finally {
    await stopAll(children, nats?.servers ?? [], { options, stopping, log })
    guard.close()
    folder.release()
  }
}

// ---- starting ----

async function checkListen({ roles }: StartOptions): Promise<void> {
  for (const { listen, count } of roles) {
    if (listen === '') continue
    const { host, port } = splitListen(listen)
    for (let index = 0; port !== 0 && index < count; index++) await refuseTaken(host, port + index)
  }
}

async function refuseTaken(host: string, port: number): Promise<void> {
  const isFree = await isPortFree(port, host).catch((error: unknown) => {
    throw new SetupError(1, `cannot listen on ${host}:${port}: ${textOf(error)}`, { cause: error })
  })
  if (!isFree) {
    throw new SetupError(
      1,
      `${host}:${port} is in use by another process. Stop that one, or choose another address with --listen (port 0 picks a free one)`,
    )
  }
}

function splitListen(listen: string): { host: string; port: number } {
  const match = /^(?:\[([^\]]+)\]|([^:]*)):(\d{1,5})$/.exec(listen)
  const port = Number(match?.[3])
  if (match === null || port > 65_535)
    throw new SetupError(2, `--listen is "${listen}", wants host:port such as 127.0.0.1:9009`)
  return { host: match[1] ?? match[2] ?? '', port }
}

async function startNats(
  { launcher, common, zones }: StartOptions,
  folder: DataFolder,
  { log, guard, stopping: { signal } }: { log: Log; guard: Guard; stopping: Stopping },
): Promise<NatsServers> {
  if (common.nats !== '') return { reach: common, servers: [] }
  const { natsServer: binary } = launcher
  return startNatsServers({ dataFolder: folder.path, zones, binary, failedStartsMax, log, guard, say, signal })
}

/** With the data folder's real path. */
type ActorOptions = StartOptions & { readonly dataPath: string }

async function startActors(shared: Omit<ActorStart, 'launched' | 'index'>): Promise<ReadyProcess[]> {
  const { options, stopping } = shared
  const ready = options.roles.toReversed().flatMap(
    (
      launched, // START-2
    ) => Array.from({ length: launched.count }, (_, index) => startActor({ ...shared, launched, index })),
  )
  return Promise.race([Promise.all(ready), stopping.asked])
}

interface ActorStart {
  readonly options: ActorOptions
  readonly nats: NatsServers
  readonly children: Supervisor[]
  readonly log: Log
  readonly guard: Guard
  readonly stopping: Stopping
  readonly launched: LaunchedRole
  readonly index: number
}

/** Resolves when the actor says that it is ready; rejects when it never will be. */
function startActor({
  options,
  nats,
  children,
  log,
  guard,
  stopping,
  launched,
  index,
}: ActorStart): Promise<ReadyProcess> {
  const { role } = launched
  const id = `${role}-${index + 1}`
  return new Promise((resolve, reject) => {
    let isReady = false
    const supervisor = supervise(
      {
        role,
        id,
        file: process.execPath,
        args: [...nodeFlags(), mainFile, role, ...flags()],
        env: { ...launched.process.env, ...actorEnv() },
        hasChannel: true,
        hungAfterMs: Math.max(hungMsMin, 2 * options.queryTimeoutMs),
      },
      {
        clock: systemClock,
        random: systemRandom,
        log,
        guard,
        onMessage(message) {
          if (isWaitingMessage(message)) say(`waiting for ${id}: ${message.lacks.join('; ')}`)
          if (!isAnnouncement(message, isWhole(options) ? 'ready' : 'started')) return
          isReady = true
          const pid = supervisor.pid() ?? 0
          log.debug({ child: id, pid, address: message.address }, 'ready')
          resolve({ pid, role, id, ...(message.address === undefined ? {} : { address: message.address }) })
        },
        onEnd({ code, endCount }) {
          const isWrong = code === 2 // its settings: trying again changes nothing
          if (!isReady && (isWrong || endCount >= failedStartsMax)) {
            supervisor.kill()
            reject(new SetupError(isWrong ? 2 : 1, `${id} does not start (exit ${code}); its reasons stand above`))
          } else if (isWrong) stopping.ask(2)
        },
      },
    )
    children.push(supervisor)
  })

  function nodeFlags(): string[] {
    return [`--max-semi-space-size=${launched.process.youngMb ?? YOUNG_MB}`, '--heap-growing-percent=200']
  }

  function flags(): string[] {
    const own = [...launched.flags, `--nats=${nats.reach.nats}`, `--id=${id}`]
    const { objects, objectsDir } = options.common
    if (objects === 'directory' && objectsDir === '')
      own.push(`--objects-dir=${path.join(options.dataPath, 'objects')}`)
    const { natsUserFile, natsSystemFile } = nats.reach
    if (natsUserFile !== '') own.push(`--nats-user-file=${natsUserFile}`)
    if (natsSystemFile !== '') own.push(`--nats-system-file=${natsSystemFile}`)
    if (launched.listen !== '') own.push(`--listen=${listenOf(launched.listen, index)}`)
    const zone = options.zones[index % options.zones.length] ?? noZone
    if (zone !== noZone) own.push(`--zone=${zone}`)
    return own
  }
}

/** Each further gateway listens on the next port; port 0 picks one for each. */
function listenOf(listen: string, index: number): string {
  const { port } = splitListen(listen)
  return port === 0 ? listen : `${listen.slice(0, listen.lastIndexOf(':'))}:${port + index}`
}

/** What is set for the launcher goes to actors as flags, so that the two never disagree. */
function actorEnv(): NodeJS.ProcessEnv {
  return Object.fromEntries(Object.entries(process.env).filter(([name]) => !name.startsWith('CARILLON_')))
}

function isWaitingMessage(message: unknown): message is { type: 'waiting'; lacks: readonly string[] } {
  return typeof message === 'object' && message !== null && 'type' in message && message.type === 'waiting'
}

function isAnnouncement(message: unknown, type: 'ready' | 'started'): message is { address?: string } {
  return typeof message === 'object' && message !== null && 'type' in message && message.type === type
}

/** Whether everything that pushes and queries need runs here. Else whoever starts the rest waits for the address that we announce. */
function isWhole({ roles }: StartOptions): boolean {
  return roles.every(({ isNeeded, count }) => !isNeeded || count > 0)
}

async function announce(
  options: StartOptions,
  folder: DataFolder,
  nats: NatsServers,
  facts: ServerFacts,
  actors: readonly ReadyProcess[],
): Promise<void> {
  const servers = nats.servers.map((server) => ({ pid: server.pid() ?? 0, role: 'nats-server', id: server.id }))
  const gateway = actors.find((actor) => actor.address !== undefined)?.address ?? ''
  const base = gateway === '' || gateway.startsWith('http') ? gateway : `http://${gateway}`
  folder.setAddress(base)
  const ready: ReadyFacts = {
    base,
    nats: nats.reach.nats,
    natsUserFile: nats.reach.natsUserFile,
    durability: facts.durability,
    durabilityReason: facts.durabilityReason,
    data: folder.path,
    processes: [...servers, ...actors],
    isWhole: isWhole(options),
  }
  if (options.launcher.output === 'json') {
    process.stdout.write(readyLine(ready))
    return
  }
  const [first = '', ...rest] = readyText(ready).split(/(?<=\n)/)
  process.stdout.write(first)
  await sleep(systemClock, READ_ON_MS)
  process.stdout.write(rest.join('')) // finds out whether anybody reads on: ends-with.mjs, END-4
}

function say(line: string): void {
  process.stderr.write(`carillon: ${line}\n`)
}

// ---- stopping ----

interface Stopping {
  readonly signal: AbortSignal
  /** Rejects when asked to stop. */
  readonly asked: Promise<never>
  readonly exitCode: Promise<number>
  ask(exitCode: number): void
  /** Runs when a second signal says: now. */
  onHurry(hurry: () => void): void
}

function stopSignals(): Stopping {
  const controller = new AbortController()
  const { promise: exitCode, resolve } = Promise.withResolvers<number>()
  const { promise: asked, reject } = Promise.withResolvers<never>()
  asked.catch(() => {}) // heard by whoever waits for it; nobody need
  let firstAtMs: number | undefined
  let hurry = () => {}
  const ask = (code: number) => {
    resolve(code)
    reject(new Error('asked to stop'))
    controller.abort()
  }
  const onSignal = () => {
    const now = systemClock.monotonic()
    if (firstAtMs === undefined) firstAtMs = now
    else if (now - firstAtMs > signalGapMs) hurry()
    ask(0)
  }
  for (const signal of ['SIGINT', 'SIGTERM'] as const) process.on(signal, onSignal)
  return {
    signal: controller.signal,
    asked,
    exitCode,
    ask,
    onHurry(next) {
      hurry = next
    },
  }
}

async function stopAll(
  children: readonly Supervisor[],
  natsServers: readonly Supervisor[],
  { options, stopping, log }: { options: StartOptions; stopping: Stopping; log: Log },
): Promise<void> {
  stopping.onHurry(() => {
    log.warn({}, 'told twice to stop: killing what is left')
    for (const child of children) child.kill()
    for (const server of natsServers) server.kill()
  })
  log.info({}, 'stopping')
  for (const child of children) child.retire()
  const { stopWaitMs } = options.launcher
  for (const { role } of options.roles) {
    await Promise.all(children.filter((child) => child.role === role).map((child) => child.stop(stopWaitMs))) // START-2
  }
  await stopNatsServers(natsServers)
  log.info({}, 'stopped')
}
