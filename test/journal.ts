// What `carillon test` counts by: a line when a file of tests begins and one when it has ended, written at once, so that they are there
// however the runner ends.
import { appendFileSync } from 'node:fs'
import { relative } from 'node:path'
import type { Reporter, TestModule } from 'vitest/node'

interface Line {
  readonly file: string
  /** A file that fails outside its tests counts as one failure. */
  readonly ended?: { readonly passed: number; readonly failed: number; readonly skipped: number }
}

export default class Journal implements Reporter {
  onTestModuleStart(module: TestModule): void {
    write({ file: nameOf(module) })
  }

  onTestModuleEnd(module: TestModule): void {
    const tests = [...module.children.allTests()].map((test) => test.result().state)
    const count = (state: string) => tests.filter((each) => each === state).length
    const [passed, failed] = [count('passed'), count('failed')]
    const isBroken = module.state() === 'failed' && failed === 0
    const skipped = tests.length - passed - failed
    write({ file: nameOf(module), ended: { passed, failed: isBroken ? 1 : failed, skipped } })
  }
}

function nameOf({ moduleId }: TestModule): string {
  return relative(process.cwd(), moduleId)
}

function write(line: Line): void {
  const file = process.env['CARILLON_TEST_JOURNAL']
  if (file !== undefined) appendFileSync(file, `${JSON.stringify(line)}\n`)
}
