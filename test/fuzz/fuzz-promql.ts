// npm run fuzz:promql -- [--prometheus PATH] [--queries N] [--seed N]: random questions to Carillon and to a real Prometheus about the same
// random data; tells every difference and exits non-zero when there is one.
import { parseArgs } from 'node:util'
import { findPrometheus } from '../cluster/prometheus-process.ts'
import { compareWithPrometheus } from './promql-oracle.ts'

const { values } = parseArgs({
  options: {
    prometheus: { type: 'string' },
    queries: { type: 'string', default: '5000' },
    seed: { type: 'string', default: String(Date.now() % 1_000_000) },
    show: { type: 'string', default: '20' },
    help: { type: 'boolean', default: false },
  },
})
if (values.help) {
  console.log('fuzz:promql [--prometheus PATH] [--queries 5000] [--seed N] [--show 20]')
  process.exit(0)
}
if (values.prometheus !== undefined) process.env['CARILLON_TEST_PROMETHEUS'] = values.prometheus
const found = findPrometheus()
if ('reason' in found) {
  console.error(found.reason)
  process.exit(2)
}
const seed = Number(values.seed)
console.log(`Prometheus ${found.version}, seed ${seed}, ${values.queries} queries`)
const report = await compareWithPrometheus({
  prometheus: found,
  seed,
  queries: Number(values.queries),
  onProgress: (asked, differing) => console.log(`${asked} asked, ${differing} differ`),
})
const share = (count: number) => `${((100 * count) / report.asked).toFixed(1)} %`
const byReason = new Map<string, number>()
for (const { why } of report.differences) {
  const reason = why.replace(/".*|\[.*/s, '').replace(/[\d.e+-]+/g, 'n')
  byReason.set(reason, (byReason.get(reason) ?? 0) + 1)
}
for (const each of report.differences.slice(0, Number(values.show))) {
  console.log(
    `\n${each.query}\n  ${JSON.stringify(each.times)}\n  ${each.why}\n  theirs ${each.theirs}\n  ours   ${each.ours}`,
  )
}
console.log([...byReason].map(([reason, count]) => `${count} × ${reason}`).join('\n'))
console.log(
  `${report.asked} asked: ${share(report.nonEmpty)} with an answer, ${share(report.errors)} refused, ` +
    `${share(report.rounded)} differ within 1e-12, on ${report.unsettled} Prometheus contradicts itself, ${report.differences.length} differ`,
)
process.exitCode = report.differences.length > 0 ? 1 : 0
