// Keeps one child process running: starts it, starts it again when it ends, stops it when told.
//
// Invariants
//   SUPERVISOR-1  A child that keeps ending is started ever more slowly (firstMs to maxMs); one that ran well for a while starts afresh.
//   SUPERVISOR-2  After `stop` nothing is started again, and the child is gone when it resolves: asked first, killed after the wait.
//   SUPERVISOR-3  A child does not outlive this process, however that ends: its channel tells it, and a guard stops it when that is not enough.
//   SUPERVISOR-4  A child whose event loop stands still (pulse.ts) is killed, and started again like any that ends.
import { type ChildProcess, spawn } from 'node:child_process'
import { backoffMs } from '../../shared/base/backoff.ts'
import type { Clock, Timer } from '../../shared/base/clock.ts'
import type { Random } from '../../shared/base/random.ts'
import type { Log } from '../../shared/telemetry/log.ts'
import type { Guard } from './guard.ts'
import { type Pulse, watchPulse } from './pulse.ts'

const restart = { firstMs: 200, maxMs: 10_000 }
const healthyAfterMs = 30_000

export interface ChildSpec {
  readonly role: string
  readonly id: string
  readonly file: string
  readonly args: readonly string[]
  readonly cwd?: string
  readonly env: NodeJS.ProcessEnv
  /** An actor speaks to us over a channel, and ends when that closes. */
  readonly hasChannel: boolean
  /** Silence on the channel after which a child hangs; absent where it need not speak. */
  readonly hungAfterMs?: number
}

export interface SupervisorDeps {
  readonly clock: Clock
  readonly random: Random
  readonly log: Log
  readonly guard?: Guard
  readonly onStarted?: (pid: number) => void
  readonly onMessage?: (message: unknown) => void
  /** After each end that nobody asked for. Before it is started again. */
  readonly onEnd?: (end: ChildEnd) => void
}

export interface ChildEnd {
  readonly code: number | null
  readonly signal: NodeJS.Signals | null
  /** How often it has ended without having run well in between. */
  readonly endCount: number
}

export interface Supervisor {
  readonly role: string
  readonly id: string
  pid(): number | undefined
  /** From now on its end is its end. */
  retire(): void
  stop(waitMs: number): Promise<void>
  /** Has it read again what may change while it runs. */
  reload(): void
  /** Kills it at once, for good. */
  kill(): void
}

export function supervise(spec: ChildSpec, deps: SupervisorDeps): Supervisor {
  const { clock, random, log } = deps
  let child: ChildProcess | undefined
  let waiting: Timer | undefined
  let endCount = 0
  let isStopping = false
  start()

  return {
    role: spec.role,
    id: spec.id,
    pid: () => child?.pid,
    retire,
    async stop(waitMs) {
      retire()
      const stopping = child
      if (stopping === undefined) return
      const ended = new Promise<void>((resolve) => stopping.once('exit', () => resolve()))
      stopping.kill('SIGTERM')
      const killing = clock.after(waitMs, () => {
        log.warn({ child: spec.id, waitMs }, 'it did not stop in time and is killed')
        stopping.kill('SIGKILL') // SUPERVISOR-2
      })
      await ended
      killing.cancel()
    },
    reload: () => void child?.kill('SIGHUP'),
    kill() {
      retire()
      child?.kill('SIGKILL')
    },
  }

  function retire(): void {
    isStopping = true
    waiting?.cancel()
  }

  function start(): void {
    const startedAtMs = clock.monotonic()
    const started = spawn(spec.file, spec.args, {
      stdio: spec.hasChannel ? ['ignore', 2, 2, 'ipc'] : ['ignore', 2, 2],
      env: spec.env,
      detached: true, // a process group of its own: Ctrl-C reaches us alone, and we stop things in order
      ...(spec.cwd === undefined ? {} : { cwd: spec.cwd }),
    })
    child = started
    const pulse = spec.hungAfterMs === undefined ? undefined : watch(started, spec.hungAfterMs)
    const end = (code: number | null, signal: NodeJS.Signals | null) => {
      pulse?.stop()
      onEnd(startedAtMs, code, signal)
    }
    started.on('error', (error) => {
      log.error({ child: spec.id, error }, 'it cannot be started')
      if (started.pid === undefined) end(null, null) // no exit will follow
    })
    started.on('exit', end)
    started.on('message', (message) => {
      pulse?.heard()
      deps.onMessage?.(message)
    })
    if (started.pid === undefined) return
    deps.guard?.add(started.pid) // SUPERVISOR-3
    deps.onStarted?.(started.pid)
  }

  /** SUPERVISOR-4 */
  function watch(hanging: ChildProcess, hungAfterMs: number): Pulse {
    return watchPulse({
      clock,
      hungAfterMs,
      onHung(silentMs) {
        log.error({ child: spec.id, pid: hanging.pid, silentMs }, 'its event loop stands still: it is killed')
        hanging.kill('SIGKILL')
      },
    })
  }

  function onEnd(startedAtMs: number, code: number | null, signal: NodeJS.Signals | null): void {
    if (child?.pid !== undefined) deps.guard?.remove(child.pid)
    child = undefined
    if (isStopping) return
    if (clock.monotonic() - startedAtMs >= healthyAfterMs) endCount = 0 // SUPERVISOR-1
    const delayMs = Math.round(backoffMs(endCount, restart, random))
    endCount += 1
    log.warn({ child: spec.id, code, signal, delayMs }, 'it ended by itself and is started again')
    deps.onEnd?.({ code, signal, endCount })
    if (!isStopping) waiting = clock.after(delayMs, start)
  }
}
