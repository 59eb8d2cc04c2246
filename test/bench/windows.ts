// What long windows cost, beside a real Prometheus that holds the same samples: CPU of the server, in the median of some runs each.
//
//   node services/carillon.mjs run test/bench/windows.ts --prometheus PATH [--days 30] [--pods 4] [--scrape 15] [--args "FLAGS"]
//
// One gauge of each pod. What is asked first is the honest question over all days, then windows that move.
import fs from 'node:fs'
import os from 'node:os'
import path from 'node:path'
import { parseArgs } from 'node:util'
import { runLoad } from './loader.ts'
import { askBoth, type Question } from './queries.ts'
import { carillon, prometheus, prometheusVersion, type Target } from './target.ts'
import { makeWorkload } from './workload.ts'

const { values: flags } = parseArgs({
  options: {
    prometheus: { type: 'string', default: process.env['CARILLON_BENCH_PROMETHEUS'] ?? 'prometheus' },
    days: { type: 'string', default: '30' },
    pods: { type: 'string', default: '4' },
    scrape: { type: 'string', default: '15' },
    args: { type: 'string', default: '' },
  },
})
const DAY_MS = 86_400_000
const days = Number(flags.days)
const name = 'go_goroutines'

const moving = (text: string, backDays: number, stepS: number): Question => ({
  name: `${text}, ${backDays} d by ${stepS} s`,
  text,
  isRange: true,
  backMs: backDays * DAY_MS,
  stepS,
})
const instant = (text: string): Question => ({ name: text, text })
const asked: readonly Question[] = [
  instant(`quantile_over_time(0.99, ${name}[${days}d])`),
  moving(`quantile_over_time(0.99, ${name}[${days}d])`, days / 10, 3_600),
  moving(`quantile_over_time(0.5, ${name}[1d])`, days - 1, 3_600),
  moving(`quantile_over_time(0.9, ${name}[1h])`, days / 3, 600),
  moving(`quantile_over_time(0.9, ${name}[5m])`, days / 3, 600),
  instant(`max_over_time(${name}[${days}d])`),
  instant(`avg_over_time(${name}[${days}d])`),
  moving(`max_over_time(${name}[1d])`, days - 1, 3_600),
  moving(`avg_over_time(${name}[1d])`, days - 1, 3_600),
]

const folder = fs.mkdtempSync(path.join(os.tmpdir(), 'carillon-bench-'))
const version = prometheusVersion(flags.prometheus)
say(`prometheus ${version}; ${os.availableParallelism()} cores, load ${os.loadavg()[0]!.toFixed(1)}`)
const scrapeMs = Number(flags.scrape) * 1_000
const scrapeCount = Math.ceil((days * DAY_MS) / scrapeMs)
const seriesCount = Number(flags.pods)
// One connection: Prometheus takes nothing that lies an hour behind.
const workload = makeWorkload(folder, {
  seriesCount,
  scrapeCount,
  connectionCount: 1,
  scrapeMs,
  names: new Set([name]),
})
const both: Target[] = [
  prometheus(flags.prometheus, folder),
  carillon(folder, { args: flags.args.split(' ').filter(Boolean) }),
]
try {
  for (const target of both) {
    say(`${workload.sampleCount} samples: ${target.name}`)
    await target.start()
    const { file, bodies } = workload
    await runLoad({ url: target.pushUrl(), file, connectionCount: 1, bodies, rate: 0 })
  }
  const lines = [
    '| query | Prometheus CPU ms | Carillon CPU ms | ratio | ms of each | answers |',
    '|---|---|---|---|---|---|',
  ]
  for (const { name: title, cpuMs, ms, agreement } of await askBoth(both, workload, asked)) {
    const ratio = cpuMs.carillon / cpuMs.prometheus
    const took = `${ms.prometheus.toFixed(0)} / ${ms.carillon.toFixed(0)}`
    lines.push(
      `| \`${title}\` | ${cpuMs.prometheus.toFixed(0)} | ${cpuMs.carillon.toFixed(0)} | ${ratio.toFixed(2)} | ${took} | ${agreement} |`,
    )
  }
  process.stdout.write(`${lines.join('\n')}\n`)
} finally {
  for (const target of both) await target.stop()
  fs.rmSync(folder, { recursive: true, force: true })
}

function say(line: string): void {
  process.stderr.write(`bench: ${line}\n`)
}
