// npm run sim -- [--seed N] [--runs N] [--workers N] [--only a,b] [--no a,b] [--always a,b] [--all] [--right-clocks] [--without part] [--list]
// Runs simulated histories; prints each that fails with the command that repeats it. Exit code 1 when one failed. README.md says more.
import { parseArgs } from 'node:util'
import { SWITCHES, type Switch } from './faults.ts'
import { Workers } from './many.ts'
import { World } from './world.ts'

/** Histories between two lines that tell how far it is. */
const PROGRESS = 1_000

const { values } = parseArgs({
  options: {
    seed: { type: 'string', default: '1' },
    runs: { type: 'string', default: '1' },
    workers: { type: 'string', default: '2' },
    only: { type: 'string' },
    no: { type: 'string', default: '' },
    always: { type: 'string', default: '' },
    all: { type: 'boolean', default: false },
    'right-clocks': { type: 'boolean', default: false },
    without: { type: 'string', multiple: true, default: [] },
    list: { type: 'boolean', default: false },
  },
})
const listed = (text: string) => text.split(',').filter((name) => name !== '')
const asked = {
  ...(values.only !== undefined && { only: listed(values.only) }),
  ...{ no: listed(values.no), always: listed(values.always), all: values.all, without: values.without },
  hasRightClocks: values['right-clocks'],
}
const seed = Number(values.seed)
const runs = Number(values.runs)

if (values.list) list()
else if (runs === 1) await one()
else await many()

function list(): void {
  for (const [name, { chance, doc, unmended }] of Object.entries(SWITCHES as Record<string, Switch>))
    console.log(
      `${name.padEnd(18)} ${`${chance * 100} %`.padStart(6)}  ${doc}${unmended === undefined ? '' : ` (left out: ${unmended})`}`,
    )
}

async function one(): Promise<void> {
  const result = await new World({
    seed,
    ...asked,
    without: new Set(asked.without),
    onEvent: (text) => console.log(text),
  }).run()
  console.log(JSON.stringify(result.counts))
  for (const fault of result.faults) console.log(`FAULT ${fault}`)
  process.exit(result.faults.length > 0 ? 1 : 0)
}

async function many(): Promise<void> {
  const workers = new Workers(Number(values.workers))
  const summary = await workers.run({
    ...{ first: seed, count: runs, asked },
    onFailure: ({ repeat, faults }) => console.log(`${repeat}\n  ${faults.join('\n  ')}`),
    onDone: (count) => {
      if (count % PROGRESS === 0) console.log(`${count} of ${runs} histories`)
    },
  })
  const counts = Object.entries(summary.counts).sort(([a], [b]) => (a < b ? -1 : 1))
  console.log(counts.map(([name, count]) => `${count} ${name}`).join(', '))
  console.log(`${runs} histories, ${summary.failures.length} failed, ${(summary.tookMs / 1000).toFixed(1)} s`)
  process.exit(summary.failures.length > 0 ? 1 : 0)
}
