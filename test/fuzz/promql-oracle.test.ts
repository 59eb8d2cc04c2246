// Random questions to Carillon and to a real Prometheus: the same answers. `npm run fuzz:promql` asks 5,000 of a current one; what runs in
// CI may be older than the one whose rules the engine follows, which then shows in texts and warnings, so only values count there.
import { expect, it } from 'vitest'
import { findPrometheus } from '../cluster/prometheus-process.ts'
import { compareWithPrometheus } from './promql-oracle.ts'

const QUERIES = 1_000
const SEED = 20
/** Known changes of values between releases (quantiles of native histograms, resets of gauges, …), as a share of all. */
const CHANGED_SHARE_MAX = 0.005

const found = findPrometheus()
const why =
  'reason' in found ? found.reason : found.major < 3 ? `Prometheus ${found.version} has other rules` : undefined
if (why !== undefined) console.warn(`skipped: random queries are compared with a real Prometheus: ${why}`)

it.skipIf(why !== undefined)(
  'random queries get the answers of a real Prometheus',
  async () => {
    if ('reason' in found) throw new Error(found.reason)
    const report = await compareWithPrometheus({ prometheus: found, seed: SEED, queries: QUERIES })
    const values = report.differences.filter(({ why }) => !/^(warnings|infos|error|status|samples)/.test(why))
    const shown = values.map(({ query, why }) => `${query}: ${why}`)
    expect(values.length, shown.join('\n')).toBeLessThanOrEqual(QUERIES * CHANGED_SHARE_MAX)
    const answered = report.differences.filter(
      ({ why }) => why === 'status 200 and 422' || why === 'status 200 and 400',
    )
    expect(answered, 'what Prometheus answers, Carillon answers').toEqual([])
    expect(report.nonEmpty).toBeGreaterThan(QUERIES * 0.65)
    expect(report.errors).toBeGreaterThan(QUERIES * 0.08)
  },
  120_000,
)
