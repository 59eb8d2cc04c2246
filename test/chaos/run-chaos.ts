// One chaos run: begin, chaos, heal, come to an end, judge. Told at the end in counts; what was wrong stays in the folder.
import { setTimeout as sleep } from 'node:timers/promises'
import { textOf } from '../../shared/base/errors.ts'
import { killEverything, residentBytes } from '../cluster/processes.ts'
import { pidOf } from '../cluster/system.ts'
import { reader, sender, uploader } from './clients.ts'
import { deleter } from './deleter.ts'
import { comesToItsEnd, judge } from './end.ts'
import { Mishaps } from './mishaps.ts'
import { type ChaosOptions, Stage, TENANTS } from './stage.ts'

export interface ChaosOutcome {
  readonly isRight: boolean
  readonly counts: Readonly<Record<string, number>>
  readonly faults: readonly string[]
  readonly text: string
}

const SENDERS_EACH = 2
const PROGRESS_MS = 10_000
const UNDAMAGED = /of which nothing was damaged/
const MIB = 1024 * 1024

export async function runChaos(options: ChaosOptions): Promise<ChaosOutcome> {
  const stage = new Stage(options)
  const mishaps = new Mishaps(stage)
  const progress = setInterval(() => options.say(progressLine(stage)), PROGRESS_MS)
  let memory: Memory[] = []
  try {
    await stage.start()
    const before = memoryOf(stage)
    await goesWrong(stage, mishaps)
    await comesToItsEnd(stage)
    await judge(stage)
    memory = memoryOf(stage).map((after) => ({ ...after, atFirst: before.find(({ id }) => id === after.id)?.now }))
  } catch (error) {
    stage.fault(`the run broke off: ${error instanceof Error ? error.stack : textOf(error)}`)
  } finally {
    stage.isChaos = false
    clearInterval(progress)
    await mishaps.end()
    await ends(stage)
  }
  const isRight = stage.faults.length === 0
  return { isRight, counts: stage.counts, faults: stage.faults, text: summary(stage, memory) }
}

/** Clients and mishaps for so long; then everything is healed, and whatever a client has begun is answered. */
async function goesWrong(stage: Stage, mishaps: Mishaps): Promise<void> {
  const chaos = mishaps.run()
  const clients = [
    ...TENANTS.flatMap((tenant) => Array.from({ length: SENDERS_EACH }, (_, number) => sender(stage, tenant, number))),
    ...TENANTS.map((tenant) => reader(stage, tenant)),
    deleter(stage, TENANTS),
    uploader(stage, TENANTS),
  ]
  const working = Promise.all([chaos, ...clients])
  const isDealt = stage.options.hand === undefined ? [] : [chaos]
  await Promise.race([sleep(stage.options.minutes * 60_000), working, ...isDealt]) // a fault of the run itself ends it
  stage.isChaos = false
  stage.trace('the chaos is over')
  await chaos
  await mishaps.heal()
  stage.trace('all is healed')
  await working
  stage.trace('every client has its answer')
}

/** Stops the system in peace; nothing that ever ran for it runs on. */
async function ends(stage: Stage): Promise<void> {
  try {
    stage.look()
    await stage.system.stop()
    const orphans = await stage.orphans()
    stage.counts['orphan processes'] = orphans.length
    if (orphans.length === 0) return
    stage.fault(`processes ${orphans.join(' ')} run on`)
  } catch (error) {
    stage.fault(`it did not end: ${textOf(error)}`)
  }
  await killEverything(stage.system)
}

// ---- telling ----

interface Memory {
  readonly id: string
  readonly now: number
  readonly atFirst?: number | undefined
}

function memoryOf({ system, options }: Stage): Memory[] {
  const servers = options.servers === 1 ? ['nats'] : ['nats-a', 'nats-b', 'nats-c']
  const actors = system.ready.processes.filter(({ role }) => role !== 'nats-server').map(({ id }) => id)
  return [...actors, ...servers].map((id) => ({ id, now: residentBytes(pidOf(system, id)) }))
}

function progressLine(stage: Stage): string {
  const { counts, ledger, startedAtMs, isChaos } = stage
  const of = (name: string) => counts[name] ?? 0
  const seconds = Math.round((Date.now() - startedAtMs) / 1_000)
  const written = `${ledger.acknowledgedCount} samples acknowledged, ${of('pushes sent again')} pushes again`
  const read = `${of('reads')} reads (${of('reads that failed')} failed), ${of('samples compared')} samples compared`
  const deleted = `${of('deletions') + of('tenants deleted')} deletions`
  return `${seconds} s ${isChaos ? '' : '(healed) '}${written}; ${read}; ${deleted}; ${stage.faults.length} violations`
}

function summary(stage: Stage, memory: readonly Memory[]): string {
  const { counts, faults, ledger } = stage
  const missing = faults.filter((text) => /misses|in place of/.test(text))
  const kind = (pattern: RegExp) => faults.filter((text) => pattern.test(text)).length
  const known = [
    ['samples acknowledged', ledger.acknowledgedCount],
    ['acknowledged and missing without a warning', missing.filter((text) => !UNDAMAGED.test(text)).length],
    ['missing with a warning, though not damaged', kind(UNDAMAGED)],
    ['missing with a warning, once or always', ledger.excused.size],
    ['deleted and shown, or still stored', kind(/which was deleted|is removed, and stored/)],
    ['shown twice', kind(/twice/)],
    ['changed sides', kind(/changed sides/)],
    ['violations in all', faults.length],
  ] as const
  const rest = Object.entries(counts)
  const mib = (bytes: number | undefined) => (bytes === undefined ? '?' : String(Math.round(bytes / MIB)))
  return [
    ...known.map(([name, count]) => `${String(count).padStart(9)}  ${name}`),
    ...rest.sort(([a], [b]) => (a < b ? -1 : 1)).map(([name, count]) => `${String(count).padStart(9)}  ${name}`),
    ...memory.map(({ id, atFirst, now }) => `${id.padEnd(16)} ${mib(atFirst)} MiB at first, ${mib(now)} at the end`),
  ].join('\n')
}
