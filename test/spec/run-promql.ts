// npm run promqltest -- [--http] [--verbose] [files]: runs promql scripts, one line per file, and exits non-zero when a case fails.
// With --http a system is started, what scripts load is pushed by remote write 2.0 and what they ask is asked over HTTP.
import { readdirSync, readFileSync } from 'node:fs'
import { basename, join } from 'node:path'
import { startSystem } from '../cluster/system.ts'
import { httpGround } from './promql-http.ts'
import { engineGround, FEATURES, runScript, SAMPLES_MAX } from './promql-script.ts'

const args = process.argv.slice(2)
if (args.includes('--help')) {
  console.log('promqltest [--http] [--verbose] [files]: runs promql scripts; without files all in test/spec/promql')
  process.exit(0)
}
const isVerbose = args.includes('--verbose')
const named = args.filter((arg) => !arg.startsWith('--'))
const folder = join(import.meta.dirname, 'promql')
const files =
  named.length > 0
    ? named
    : readdirSync(folder)
        .filter((name) => name.endsWith('.test'))
        .map((name) => join(folder, name))

const features = ['--enable-feature', [...FEATURES].join(',')]
const system = args.includes('--http')
  ? await startSystem({ args: [...features, '--start-timestamps', '--samples-max', String(SAMPLES_MAX)] })
  : undefined
const ground = system === undefined ? engineGround() : httpGround(system.url)
let failedCount = 0
try {
  for (const file of files.sort()) {
    const outcomes = await runScript(readFileSync(file, 'utf8'), ground)
    const failed = outcomes.filter(({ fault }) => fault !== undefined)
    const skipped = outcomes.filter((outcome) => outcome.skipped !== undefined)
    failedCount += failed.length
    const passedCount = outcomes.length - failed.length - skipped.length
    const why = [...new Set(skipped.map((outcome) => outcome.skipped))].join(', ')
    const left = skipped.length === 0 ? '' : `, ${skipped.length} skipped: remote write does not carry ${why}`
    console.log(`${basename(file)}: ${passedCount} passed, ${failed.length} failed${left}`)
    if (!isVerbose) continue
    for (const { line, expression, fault } of failed)
      console.log(`  ${basename(file)}:${line} ${expression}\n    ${fault}`)
  }
} finally {
  await system?.stop()
}
process.exitCode = failedCount > 0 ? 1 : 0
