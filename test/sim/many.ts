// Many histories, in processes of their own: each takes the next few seeds when it is done with the last. A process is warm after some fifty
// histories, twice as fast as at first: the same ones serve run after run.
import { type ChildProcess, fork } from 'node:child_process'
import type { Asked } from './faults.ts'
import type { SimResult } from './world.ts'

export interface AskedMany extends Asked {
  readonly without?: readonly string[]
  readonly hasRightClocks?: boolean
}

export interface ManyOptions {
  readonly first: number
  readonly count: number
  readonly asked: AskedMany
  /** No more are begun when one has failed. */
  readonly stopsAtFirst?: boolean
  readonly onFailure?: (failure: Failure) => void
  /** After each history: how many are done. */
  readonly onDone?: (doneCount: number) => void
}

export interface Failure {
  readonly seed: number
  readonly faults: readonly string[]
  /** The command that repeats it. */
  readonly repeat: string
}

export interface Summary {
  readonly failures: readonly Failure[]
  readonly counts: Readonly<Record<string, number>>
  /** By seed: what the owners held at the end. */
  readonly digests: ReadonlyMap<number, readonly string[]>
  readonly tookMs: number
}

/** What a process is told to do; it answers with a SimResult for each seed, in this order. */
export interface Chunk {
  readonly seeds: readonly number[]
  readonly asked: AskedMany
}

const CHUNK = 10
/** A history lives in the young generation and is gone after it. */
const YOUNG_MIB = 64
/** A history takes parts of a second: one that takes so long hangs. */
const SILENT_MS_MAX = 60_000

export class Workers {
  private readonly children: (ChildProcess | undefined)[]

  constructor(count: number) {
    this.children = Array.from({ length: count }, () => undefined)
  }

  async run({ first, count, asked, stopsAtFirst, onFailure, onDone }: ManyOptions): Promise<Summary> {
    const startMs = Date.now()
    const failures: Failure[] = []
    const counts: Record<string, number> = {}
    const digests = new Map<number, readonly string[]>()
    const waiting = Array.from({ length: count }, (_, i) => first + i)
    const note = (result: SimResult) => {
      const { seed, faults } = result
      for (const [name, some] of Object.entries(result.counts)) counts[name] = (counts[name] ?? 0) + some
      digests.set(seed, result.digests)
      onDone?.(digests.size)
      if (faults.length === 0) return
      const failure = { seed, faults, repeat: commandOf(seed, asked) }
      failures.push(failure)
      onFailure?.(failure)
    }
    const take = () => waiting.splice(0, stopsAtFirst === true ? (failures.length > 0 ? 0 : 1) : CHUNK)
    const work = async (number: number) => {
      for (let seeds = take(); seeds.length > 0; seeds = take()) {
        const child = this.children[number] ?? started()
        this.children[number] = child
        const { done, why } = await runBy(child, { seeds, asked }, note)
        if (why === undefined) continue
        note({ seed: seeds[done]!, faults: [why], counts: {}, digests: [] })
        waiting.unshift(...seeds.slice(done + 1))
        child.kill('SIGKILL')
        this.children[number] = undefined
      }
    }
    await Promise.all(this.children.map((_, number) => work(number)))
    return { failures: failures.sort((a, b) => a.seed - b.seed), counts, digests, tookMs: Date.now() - startMs }
  }

  end(): void {
    for (const child of this.children) child?.disconnect()
  }
}

function started(): ChildProcess {
  return fork(new URL('./worker.ts', import.meta.url), {
    execArgv: ['--single-threaded-gc', `--max-semi-space-size=${YOUNG_MIB}`],
    stdio: ['ignore', 'inherit', 'inherit', 'ipc'],
  })
}

/** How many came to an end, and why the next one did not. */
function runBy(
  child: ChildProcess,
  chunk: Chunk,
  note: (result: SimResult) => void,
): Promise<{ done: number; why?: string }> {
  return new Promise((resolve) => {
    let done = 0
    const end = (why?: string) => {
      clearTimeout(silence)
      child.off('message', onResult)
      child.off('exit', onExit)
      resolve({ done, ...(why !== undefined && { why }) })
    }
    const onSilence = () => end(`the history did not end within ${SILENT_MS_MAX / 1000} s`)
    let silence = setTimeout(onSilence, SILENT_MS_MAX)
    const onExit = (code: number | null) => end(`the process of the history ended with ${code}`)
    const onResult = (result: unknown) => {
      note(result as SimResult)
      clearTimeout(silence)
      silence = setTimeout(onSilence, SILENT_MS_MAX)
      if (++done === chunk.seeds.length) end()
    }
    child.on('message', onResult)
    child.on('exit', onExit)
    child.send(chunk)
  })
}

function commandOf(seed: number, { only, no = [], always = [], all, without = [], hasRightClocks }: AskedMany): string {
  const parts = ['npm run sim --', `--seed ${seed}`]
  if (only !== undefined) parts.push(`--only ${only.join()}`)
  if (no.length > 0) parts.push(`--no ${no.join()}`)
  if (always.length > 0) parts.push(`--always ${always.join()}`)
  if (all) parts.push('--all')
  if (hasRightClocks) parts.push('--right-clocks')
  return [...parts, ...without.map((part) => `--without ${part}`)].join(' ')
}
