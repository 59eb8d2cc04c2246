// Honest questions over a long time, and one that is not: each is answered or ends in time. Whether others wait meanwhile is seen by the quiet tenant.
import { type Answered, ask, pushUntilTaken } from '../cluster/client.ts'
import type { Attack, Target } from './run-attack.ts'

const TENANT = 'long'
const DAY_S = 86_400
const SCRAPE_S = 15
const DAYS = 45
const PUSHED_AT_ONCE = 20_000
const ANSWER_MS_MAX = 30_000
/** What may come on top of the timeout of a query, on a busy machine. */
const LATE_MS_MAX = 2_000
const nowS = Math.floor(Date.now() / 1000)

async function push({ url }: Target): Promise<string | undefined> {
  const labels = ['__name__', 'probe_duration_seconds', 'target', 'a']
  const count = (DAYS * DAY_S) / SCRAPE_S
  for (let from = 0; from < count; from += PUSHED_AT_ONCE) {
    const samples = Array.from({ length: Math.min(PUSHED_AT_ONCE, count - from) }, (_, i) => ({
      time: (nowS - (count - from - i) * SCRAPE_S) * 1000,
      value: ((from + i) * 7919) % 1_009,
    }))
    const { status, text } = await pushUntilTaken(url, { series: [{ labels, samples }] }, { tenant: TENANT })
    if (status !== 204) return `a push was answered ${status} ${text}`
  }
  return undefined
}

const query = (target: Target, path: string, parameters: Record<string, string>): Promise<Answered> =>
  ask(target.url, path, parameters, { tenant: TENANT, timeoutMs: ANSWER_MS_MAX, method: 'POST' })

const ranged = (window: string): Attack => ({
  name: `long: quantiles of ${window} at each half hour of two weeks`,
  async run(target) {
    const { status, body } = await query(target, '/api/v1/query_range', {
      query: `quantile_over_time(0.99, probe_duration_seconds[${window}])`,
      ...{ start: String(nowS - 14 * DAY_S), end: String(nowS), step: '1800' },
    })
    if (status !== 200) return `answered ${status} ${JSON.stringify(body).slice(0, 200)}`
    const count = body.data.result[0]?.values.length
    return count === 673 ? undefined : `has ${count} values instead of 673`
  },
})

/** So many at once, of two queriers or one. */
const AT_ONCE = 10
const outOfTime: Attack = {
  name: `long: ${AT_ONCE} at once that cannot be done in their second`,
  async run(target) {
    const endless = Array.from({ length: AT_ONCE }, async () => {
      const fromMs = performance.now()
      const { status } = await query(target, '/api/v1/query', {
        query: 'avg_over_time(stddev_over_time(probe_duration_seconds[1d:1s])[20d:5s])',
        timeout: '1s',
      })
      const tookMs = Math.round(performance.now() - fromMs)
      return status !== 503 || tookMs > 1_000 + LATE_MS_MAX ? `answered ${status} after ${tookMs} ms` : undefined
    })
    return (await Promise.all(endless)).find((fault) => fault !== undefined)
  },
}

export const longAttacks: readonly Attack[] = [
  { name: `long: a series of ${DAYS} days is written`, run: push },
  ranged('7d'),
  ranged('30d'),
  outOfTime,
]
