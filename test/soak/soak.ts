// npm run soak -- [--minutes N] [--series N] [--interval S] [--seed N] [--segment S] [--args "FLAGS"]
// Runs the system, writes and checks for so long (soaker.ts), with segments short enough that everything is flushed, merged, purged and
// dropped meanwhile. Prints what was checked and how the memory of each actor went. Exit code 1: an answer was wrong, or an actor died.
import { parseArgs } from 'node:util'
import { seededRandom } from '../../shared/base/random.ts'
import { startSystem } from '../cluster/system.ts'
import { runSoak } from './run-soak.ts'

const { values } = parseArgs({
  options: {
    minutes: { type: 'string', default: '30' },
    series: { type: 'string', default: '10000' },
    interval: { type: 'string', default: '10' },
    segment: { type: 'string', default: '120' },
    seed: { type: 'string', default: String(Math.floor(Math.random() * 1e9)) },
    args: { type: 'string', default: '' },
  },
})
const segmentS = Number(values.segment)
const random = seededRandom(Number(values.seed))
console.log(`soak: --minutes ${values.minutes} --series ${values.series} --seed ${values.seed}`)
const system = await startSystem({
  args: [
    ...['--partitions=2', `--segment=${segmentS}s`, `--segment-min=${Math.max(1, segmentS / 4)}s`, '--drop-after=20s'],
    ...['--compact-every=10s', '--compact-delay=0s', '--retired-delay=30s', '--sweep-every=1m'],
    ...values.args.split(' ').filter((flag) => flag !== ''),
  ],
})
const outcome = await runSoak(system, {
  minutes: Number(values.minutes),
  seriesCount: Number(values.series),
  intervalMs: Number(values.interval) * 1_000,
  checkPauseMs: 500,
  random: () => random.next(),
  say: (text) => console.log(`${new Date().toISOString()} ${text}`),
}).finally(() => system.stop())
console.log(outcome.text)
process.exit(outcome.isRight ? 0 : 1)
