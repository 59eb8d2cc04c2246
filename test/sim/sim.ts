// npm run sim -- [--seed N] [--runs N] [--without ack-rule|define-until-stored|idempotence|election-bound|flush-order|replay-bound]
// Runs simulated histories; prints each that fails with the seed that repeats it. Exit code 1 when one failed.
import { parseArgs } from 'node:util'
import { World } from './world.ts'

const { values } = parseArgs({
  options: {
    seed: { type: 'string', default: '1' },
    runs: { type: 'string', default: '1' },
    without: { type: 'string', multiple: true, default: [] },
  },
})
const first = Number(values.seed)
const runs = Number(values.runs)
const without = new Set(values.without)
let failedCount = 0
let acknowledgedCount = 0
let lateCount = 0
let flushedCount = 0
let purgedCount = 0
let takeoverCount = 0
for (let seed = first; seed < first + runs; seed++) {
  const onEvent = runs === 1 ? (text: string) => console.log(text) : undefined
  const result = await new World({ seed, without, ...(onEvent ? { onEvent } : {}) }).run()
  acknowledgedCount += result.acknowledgedCount
  lateCount += result.lateCount
  flushedCount += result.flushedCount
  purgedCount += result.purgedCount
  takeoverCount += result.takeoverCount
  if (result.faults.length === 0) continue
  failedCount++
  console.log(`seed ${seed}:\n  ${result.faults.slice(0, 10).join('\n  ')}`)
}
console.log(
  `${runs} histories, ${failedCount} failed, ${acknowledgedCount} samples acknowledged, ${lateCount} batches came too late, ${flushedCount} segments flushed, ${purgedCount} messages purged, ${takeoverCount} takeovers`,
)
process.exit(failedCount > 0 ? 1 : 0)
