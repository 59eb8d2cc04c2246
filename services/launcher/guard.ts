// What this process has started does not outlive it, however it ends. Actors notice by their channel, unless they hang; a nats-server has none.
// So a guard stands by: a shell that reads from a pipe whose other end only this process holds, and stops what is left when that closes.
//
// Invariants
//   GUARD-1  The guard knows whom it was told of last, and touches nobody else.
//   GUARD-2  A guard that dies is followed by another one.
import { type ChildProcess, spawn } from 'node:child_process'
import type { Clock, Timer } from '../../shared/base/clock.ts'
import type { Log } from '../../shared/telemetry/log.ts'

const againMs = 1_000
/** As long may those take that were asked to stop; being killed costs a nats-server nothing that was acknowledged. */
const stopSecondsMax = 10

/** Signals of a terminal are not meant for it: whoever holds the pipe decides. */
const script = `trap '' INT TERM HUP
while read -r line; do pids=$line; done
[ -n "$pids" ] || exit 0
kill -TERM $pids
for second in $(seq ${stopSecondsMax}); do
  sleep 1
  left=
  for pid in $pids; do kill -0 "$pid" && left="$left $pid"; done
  pids=$left
  [ -n "$pids" ] || exit 0
done
kill -KILL $pids`

export interface Guard {
  /** This process is to end with us. */
  add(pid: number): void
  /** It has ended. */
  remove(pid: number): void
  /** There is nothing to guard any more. */
  close(): void
}

export function startGuard({ clock, log }: { readonly clock: Clock; readonly log: Log }): Guard {
  const watched = new Set<number>()
  let shell: ChildProcess | undefined
  let again: Timer | undefined
  let isClosed = false
  start()
  return {
    add(pid) {
      watched.add(pid)
      tell()
    },
    remove(pid) {
      watched.delete(pid)
      tell()
    },
    close() {
      isClosed = true
      watched.clear()
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
        'no shell can be had: what hangs would outlive this process if that is killed',
      )
    })
    started.on('exit', () => {
      shell = undefined
      if (!isClosed) again = clock.after(againMs, start) // GUARD-2
    })
    tell()
  }

  /** GUARD-1: all of them in a line, the newest of which counts. */
  function tell(): void {
    shell?.stdin?.write(`${[...watched].join(' ')}\n`)
  }
}
