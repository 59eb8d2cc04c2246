// node test/spec/run-promql.ts [--verbose] [files]: runs promql scripts, one line per file, and exits non-zero when a case fails.
import { readdirSync, readFileSync } from 'node:fs'
import { basename, join } from 'node:path'
import { runScript } from './promql-script.ts'

const args = process.argv.slice(2)
const isVerbose = args.includes('--verbose')
const named = args.filter((arg) => !arg.startsWith('--'))
const folder = join(import.meta.dirname, 'promql')
const files =
  named.length > 0
    ? named
    : readdirSync(folder)
        .filter((name) => name.endsWith('.test'))
        .map((name) => join(folder, name))

let failedCount = 0
for (const file of files.sort()) {
  const outcomes = await runScript(readFileSync(file, 'utf8'))
  const failed = outcomes.filter(({ fault }) => fault !== undefined)
  failedCount += failed.length
  console.log(`${basename(file)}: ${outcomes.length - failed.length} passed, ${failed.length} failed`)
  if (!isVerbose) continue
  for (const { line, expression, fault } of failed)
    console.log(`  ${basename(file)}:${line} ${expression}\n    ${fault}`)
}
process.exitCode = failedCount > 0 ? 1 : 0
