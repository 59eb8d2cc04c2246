// npm run chaos -- [--minutes N] [--seed N] [--servers 1|3] [--no MISHAP,…] [--hand MISHAP,…] [--folder DIR] [--keep]
// Runs a whole system of real processes, writes, reads, deletes and uploads, and lets everything go wrong meanwhile (README.md). Exit code 1: something
// that was acknowledged, promised or deleted was not so; what shows it stays in the folder.
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { parseArgs } from 'node:util'
import { runChaos } from './run-chaos.ts'

const { values } = parseArgs({
  options: {
    minutes: { type: 'string', default: '30' },
    seed: { type: 'string', default: String(Math.floor(Math.random() * 1e6)) },
    servers: { type: 'string', default: '1' },
    no: { type: 'string', default: '' },
    hand: { type: 'string' },
    folder: { type: 'string' },
    keep: { type: 'boolean', default: false },
  },
})
if (values.servers !== '1' && values.servers !== '3') throw new Error('--servers is 1 or 3')
const [minutes, seed] = [Number(values.minutes), Number(values.seed)]
if (!(minutes > 0) || !Number.isSafeInteger(seed)) throw new Error('--minutes and --seed are numbers')
const folder = values.folder ?? mkdtempSync(join(tmpdir(), 'carillon-chaos-'))
console.log(`chaos: --minutes ${minutes} --seed ${seed} --servers ${values.servers}; everything is kept in ${folder}`)
const namesIn = (list: string) => list.split(',').filter((name) => name !== '')
const say = (text: string) => console.log(text)
const { isRight, faults, text } = await runChaos({
  minutes,
  seed,
  servers: values.servers === '3' ? 3 : 1,
  without: namesIn(values.no),
  ...(values.hand !== undefined && { hand: namesIn(values.hand) }),
  folder,
  say,
})
console.log(text)
if (isRight && !values.keep) rmSync(folder, { recursive: true, force: true })
else writeFileSync(join(folder, 'violations.txt'), `${faults.join('\n')}\n`)
console.log(
  isRight ? 'all is right' : `WRONG: ${folder} shows it (violations.txt, trace.log, processes.log, answers, data)`,
)
process.exit(isRight ? 0 : 1)
