// Whether a loop turns: counted by a clock of our own, and watched in real processes that hang.
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, describe, expect, test } from 'vitest'
import { sayAlive, watchPulse } from '../../../services/launcher/pulse.ts'
import { supervise } from '../../../services/launcher/supervisor.ts'
import { type Clock, systemClock } from '../../../shared/base/clock.ts'
import { systemRandom } from '../../../shared/base/random.ts'
import { silentLog } from '../../../shared/telemetry/log.ts'
import { until } from '../../waiting.ts'
import { isAlive, type Launched, launch, startArgs, temporaryFolder } from './carillon-process.ts'

const hasServer = process.env['CARILLON_NATS_SERVER'] !== undefined || process.env['CARILLON_CI'] === '1'

/** A clock whose timers come when the test lets them, however late. */
function handClock(): Clock & { pass(ms: number): void; sleep(ms: number): void } {
  let nowMs = 0
  const timers: { atMs: number; fn: () => void }[] = []
  const due = () => {
    for (const timer of timers.splice(0)) (timer.atMs <= nowMs ? () => timer.fn() : () => timers.push(timer))()
  }
  return {
    now: () => nowMs,
    monotonic: () => nowMs,
    uptime: () => nowMs,
    after(delayMs, fn) {
      const timer = { atMs: nowMs + delayMs, fn }
      timers.push(timer)
      return { cancel: () => void (timers.includes(timer) && timers.splice(timers.indexOf(timer), 1)) }
    },
    turn: (fn) => void setImmediate(fn),
    pass(ms) {
      for (let i = 0; i < ms; i += 100) {
        nowMs += 100
        due()
      }
    },
    sleep(ms) {
      nowMs += ms
      due()
    },
  }
}

describe('a pulse', () => {
  test('PULSE-1: silence for longer than the bound is told once; whoever is heard in time is left alone', () => {
    const clock = handClock()
    const hung: number[] = []
    const pulse = watchPulse({ clock, hungAfterMs: 10_000, onHung: (silentMs) => hung.push(silentMs) })
    for (let i = 0; i < 20; i++) {
      clock.pass(9_000)
      pulse.heard()
    }
    expect(hung).toEqual([])
    clock.pass(30_000)
    expect(hung).toEqual([10_500])
  })

  test('PULSE-2: while nobody looks, nothing counts: a suspended machine kills nobody', () => {
    const clock = handClock()
    const hung: number[] = []
    const pulse = watchPulse({ clock, hungAfterMs: 10_000, onHung: (silentMs) => hung.push(silentMs) })
    clock.pass(8_000)
    clock.sleep(3_600_000)
    clock.pass(500)
    expect(hung).toEqual([])
    pulse.heard()
    for (let i = 0; i < 9; i++) clock.sleep(60_000) // a launcher that gets hardly any CPU
    expect(hung).toEqual([])
    pulse.stop()
    clock.pass(60_000)
    expect(hung).toEqual([])
  })

  test('PULSE-3: nothing piles up before a watcher that does not read', () => {
    const clock = handClock()
    const sent: (() => void)[] = []
    sayAlive(clock, (_, onSent) => sent.push(onSent))
    clock.pass(60_000)
    expect(sent).toHaveLength(1)
    sent[0]!()
    clock.pass(1_000)
    expect(sent).toHaveLength(2)
  })
})

test('SUPERVISOR-4: a child whose loop never comes round is killed, and started again', async () => {
  const folder = mkdtempSync(join(tmpdir(), 'carillon-pulse-'))
  const file = join(folder, 'hangs.mjs')
  writeFileSync(file, 'process.send({}); setTimeout(() => { for (;;); }, 10)')
  const pids: number[] = []
  const child = supervise(
    {
      role: 'r',
      id: 'hangs',
      file: process.execPath,
      args: [file],
      env: process.env,
      hasChannel: true,
      hungAfterMs: 1_000,
    },
    { clock: systemClock, random: systemRandom, log: silentLog, onStarted: (pid) => pids.push(pid) },
  )
  try {
    await until('it was started three times', () => pids.length >= 3)
  } finally {
    child.kill()
  }
  await until('none of them is left', () => !pids.some(isAlive))
  rmSync(folder, { recursive: true })
})

describe.runIf(hasServer && process.platform === 'linux')('a system', () => {
  let data: string
  let launched: Launched

  afterEach(async () => {
    launched.child.kill('SIGTERM')
    await launched.ended
    rmSync(data, { recursive: true, force: true, maxRetries: 10 })
  })

  test('an actor that hangs for twice the time of a query is killed and started again; one that a stopped launcher could not hear is not', async () => {
    data = temporaryFolder()
    launched = launch(startArgs(data, '--query-timeout=1s'))
    const ready = await launched.ready
    const pidOf = (role: string) => ready.processes.find((each) => each.role === role)!.pid
    process.kill(ready.launcher, 'SIGSTOP')
    await new Promise((resolve) => setTimeout(resolve, 12_000))
    process.kill(ready.launcher, 'SIGCONT')
    await new Promise((resolve) => setTimeout(resolve, 2_000))
    expect(launched.stderr()).not.toContain('stands still')
    expect(ready.processes.every(({ pid }) => isAlive(pid))).toBe(true)
    const hanging = pidOf('querier')
    process.kill(hanging, 'SIGSTOP')
    await until('it is killed', () => !isAlive(hanging))
    expect(launched.stderr()).toMatch(/"child":"querier-1".*"its event loop stands still: it is killed"/)
    await until('queries are answered again', async () => (await fetch(`${ready.query}/-/ready/reads`)).status === 200)
    expect((await fetch(`${ready.query}/api/v1/query?query=1`)).status).toBe(200)
  })
})
