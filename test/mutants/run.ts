// npm run mutants -- [--only id,…] [--changed REVISION] [--jobs N] [--list]
// Takes one rule after the other out of a copy of the project and runs the tests that must notice. Prints a row for each as it is known, and
// ends with exit code 1 when one survived, does not fit the source any more (stale), or broke the file instead of the rule.
import { execFileSync } from 'node:child_process'
import os from 'node:os'
import { parseArgs } from 'node:util'
import { findNatsServer } from '../../services/launcher/nats-binary.ts'
import { root } from '../tidy/sources.ts'
import { type Copy, makeCopies, type Outcome } from './copies.ts'
import { type Mutant, mutated, parseTable, readFile, readMutants, staleness } from './table.ts'

type Verdict = 'killed' | 'SURVIVED' | 'STALE' | 'BROKEN'

const { values } = parseArgs({
  options: {
    only: { type: 'string' },
    changed: { type: 'string' },
    jobs: { type: 'string', default: String(Math.max(1, os.availableParallelism())) },
    list: { type: 'boolean', default: false },
  },
})
const chosen = choose(readMutants())
if (values.list) {
  for (const { id, rule, file } of chosen) console.log(`${id.padEnd(36)} ${file}\n    ${rule}`)
  process.exit(0)
}
process.exit(await runAll(chosen, Number(values.jobs)))

function choose(all: readonly Mutant[]): readonly Mutant[] {
  if (values.only !== undefined) {
    const ids = values.only.split(',')
    const unknown = ids.filter((id) => !all.some((mutant) => mutant.id === id))
    if (unknown.length === 0) return all.filter(({ id }) => ids.includes(id))
    console.error(`no mutant is called ${unknown.join(', ')}; --list names all`)
    process.exit(2)
  }
  const since = values.changed
  if (since === undefined) return all
  const git = (...args: string[]) =>
    execFileSync('git', args, { cwd: root, stdio: ['ignore', 'pipe', 'ignore'] }).toString()
  const changed = new Set(git('diff', '--name-only', since).split('\n'))
  const before = git('ls-tree', '-r', '--name-only', since, 'test/mutants')
    .split('\n')
    .filter((file) => file.endsWith('.mutants'))
    .flatMap((file) => parseTable(file, git('show', `${since}:${file}`)))
  const essence = ({ file, from, to, tests }: Mutant) => JSON.stringify([file, from, to, tests])
  const known = new Set(before.map(essence))
  return all.filter((mutant) => changed.has(mutant.file) || !known.has(essence(mutant)))
}

async function runAll(mutants: readonly Mutant[], jobs: number): Promise<number> {
  const counts: Record<Verdict, number> = { killed: 0, SURVIVED: 0, STALE: 0, BROKEN: 0 }
  const say = (verdict: Verdict, { id, rule }: Mutant, text: string) => {
    counts[verdict]++
    console.log(`${verdict.padEnd(8)} ${id.padEnd(36)} ${text}${verdict === 'killed' ? '' : `\n         ${rule}`}`)
  }
  const fit: Mutant[] = []
  for (const mutant of mutants) {
    const why = staleness(mutant, readFile)
    if (why === undefined) fit.push(mutant)
    else say('STALE', mutant, why)
  }
  if (fit.length > 0) {
    const { path: nats } = await findNatsServer({ given: process.env['CARILLON_NATS_SERVER'], say: console.error })
    process.env['CARILLON_NATS_SERVER'] = nats
    const { copies, remove } = makeCopies(Math.min(jobs, fit.length))
    process.on('exit', remove)
    for (const signal of ['SIGINT', 'SIGTERM'] as const) process.on(signal, () => process.exit(1))
    const failing = await failuresWithout(copies, fit)
    if (failing.length > 0) {
      console.error(`these tests fail as it is, without any mutant:\n${failing.join('\n')}`)
      return 1
    }
    await Promise.all(copies.map((copy) => work(copy, fit, say)))
  }
  console.log(
    `${mutants.length} mutants: ${counts.killed} killed, ${counts.SURVIVED} survived, ${counts.STALE} stale, ${counts.BROKEN} broken`,
  )
  return counts.killed === mutants.length ? 0 : 1
}

/** The tests of all mutants pass while nothing is taken out: else they would notice everything. */
async function failuresWithout(copies: readonly Copy[], mutants: readonly Mutant[]): Promise<string[]> {
  const byFile = Map.groupBy(
    mutants.flatMap(({ tests }) => tests),
    ({ file }) => file,
  )
  const left = [...byFile.values()]
  const failing: string[] = []
  const look = async (copy: Copy): Promise<void> => {
    for (let tests = left.shift(); tests !== undefined; tests = left.shift()) {
      const outcome = await copy.run(tests)
      if (outcome.kind !== 'passed') failing.push(`${tests[0]!.file}: ${textOf(outcome)}`)
    }
  }
  await Promise.all(copies.map(look))
  return failing
}

/** Takes mutants off the list until it is empty. */
async function work(
  copy: Copy,
  mutants: Mutant[],
  say: (verdict: Verdict, mutant: Mutant, text: string) => void,
): Promise<void> {
  for (let mutant = mutants.shift(); mutant !== undefined; mutant = mutants.shift()) {
    const beganMs = performance.now()
    const outcome = await copy.runWith(mutant.file, mutated(mutant, readFile(mutant.file)!), mutant.tests)
    const seconds = `${((performance.now() - beganMs) / 1000).toFixed(1)} s`.padStart(7)
    say(verdictOf(outcome), mutant, `${seconds}  ${textOf(outcome)}`)
  }
}

function verdictOf({ kind }: Outcome): Verdict {
  if (kind === 'passed') return 'SURVIVED'
  return kind === 'nothing' ? 'BROKEN' : 'killed'
}

function textOf(outcome: Outcome): string {
  switch (outcome.kind) {
    case 'passed':
      return 'no test noticed'
    case 'failed':
      return outcome.test
    case 'hung':
      return 'the tests did not end'
    case 'nothing':
      return outcome.text
  }
}
