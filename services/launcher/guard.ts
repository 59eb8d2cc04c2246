// A nats-server has no channel to the launcher that closes when that dies, as actors have. A guard is its channel: a shell that reads from a
// pipe whose other end only the launcher holds. When the launcher is gone, however that ended, the guard stops the server.
//
// Invariants
//   G1  The guard knows the newest process that it was told of, and touches no other.
//   G2  A guard that dies is followed by another one, as long as there is something to guard.
import { type ChildProcess, spawn } from 'node:child_process'
import type { Clock, Timer } from '../../shared/base/clock.ts'
import type { Log } from '../../shared/telemetry/log.ts'

const againMs = 1_000
/** As long may a server take that was asked to stop; being killed costs it nothing that was acknowledged. */
const stopSecondsMax = 10

/** Signals of a terminal are not meant for it: whoever holds the pipe decides. */
const script = `trap '' INT TERM HUP
while read -r line; do pid=$line; done
[ -n "$pid" ] && kill -TERM "$pid" || exit 0
for second in $(seq ${stopSecondsMax}); do sleep 1; kill -0 "$pid" || exit 0; done
kill -KILL "$pid"`

export interface Guard {
  /** What is to end with us from now on, if anything. */
  watch(pid: number | undefined): void
  /** There is nothing to guard any more. */
  close(): void
}

export function startGuard({ clock, log }: { readonly clock: Clock; readonly log: Log }): Guard {
  let shell: ChildProcess | undefined
  let again: Timer | undefined
  let watched: number | undefined
  let isClosed = false
  start()
  return {
    watch(pid) {
      watched = pid
      tell()
    },
    close() {
      isClosed = true
      watched = undefined
      again?.cancel()
      tell()
      shell?.stdin?.end()
    },
  }

  function start(): void {
    const started = spawn('sh', ['-c', script], { stdio: ['pipe', 'ignore', 'ignore'], detached: true })
    shell = started
    started.stdin.on('error', (error) => log.debug({ reason: error.message }, 'a guard is gone')) // its exit follows
    started.on('error', (error) => {
      log.warn(
        { reason: error.message },
        'no shell can be had: a nats-server would outlive this process if that is killed',
      )
    })
    started.on('exit', () => {
      shell = undefined
      if (!isClosed) again = clock.after(againMs, start) // G2
    })
    tell()
  }

  /** An empty line: nobody. */
  function tell(): void {
    shell?.stdin?.write(`${watched ?? ''}\n`)
  }
}
