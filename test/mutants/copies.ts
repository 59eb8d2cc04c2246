// Copies of the project in a temporary folder, in which mutants are applied and tests are run: the checkout itself is never touched.
import { type ChildProcess, execFileSync, spawn } from 'node:child_process'
import fs from 'node:fs'
import os from 'node:os'
import path from 'node:path'
import { root } from '../tidy/sources.ts'
import type { NamedTest } from './table.ts'

/** What vitest says of a run. */
export type Outcome =
  | { readonly kind: 'passed' }
  /** A test failed: its full name. */
  | { readonly kind: 'failed'; readonly test: string }
  /** No test came so far as to say anything: a file could not be loaded, or none has such a name. */
  | { readonly kind: 'nothing'; readonly text: string }
  /** Not over in time. */
  | { readonly kind: 'hung' }

/** A run that lasts longer is ended. */
const RUN_MS_MAX = 8 * 60_000
/** A single test that a mutant makes wait for ever; what a mutant keeps from coming is polled for no longer than that. */
const TEST_MS_MAX = 60_000
const STOP_MS_MAX = 10_000
const OUTPUT_CHARS_MAX = 20_000

/** What the folder of all copies is, and how it goes again. */
export function makeCopies(count: number): { copies: Copy[]; remove: () => void } {
  const folder = fs.mkdtempSync(path.join(os.tmpdir(), 'carillon-mutants-'))
  const listed = execFileSync('git', ['ls-files', '-z', '--cached', '--others', '--exclude-standard'], { cwd: root })
  const files = listed
    .toString()
    .split('\0')
    .filter((file) => file !== '' && fs.existsSync(path.join(root, file)))
  const copies = Array.from({ length: count }, (_, i) => {
    const at = path.join(folder, String(i))
    for (const file of files) fs.cpSync(path.join(root, file), path.join(at, file))
    fs.symlinkSync(path.join(root, 'node_modules'), path.join(at, 'node_modules'))
    return new Copy(at)
  })
  const remove = () => {
    for (const copy of copies) copy.stop()
    fs.rmSync(folder, { recursive: true, force: true, maxRetries: 3 })
  }
  return { copies, remove }
}

export class Copy {
  private readonly at: string
  private child: ChildProcess | undefined

  constructor(at: string) {
    this.at = at
  }

  /** Runs the tests while `file` holds `text`. */
  async runWith(file: string, text: string, tests: readonly NamedTest[]): Promise<Outcome> {
    const absolute = path.join(this.at, file)
    const before = fs.readFileSync(absolute)
    fs.writeFileSync(absolute, text)
    try {
      return await this.run(tests)
    } finally {
      fs.writeFileSync(absolute, before)
    }
  }

  async run(tests: readonly NamedTest[]): Promise<Outcome> {
    const report = path.join(this.at, 'report.json')
    const files = [...new Set(tests.map(({ file }) => file))]
    const names = [...new Set(tests.map(({ name }) => name))]
    const pattern = names.map((name) => name.replace(/[\\^$.*+?()[\]{}|]/g, '\\$&')).join('|')
    const { code, output } = await this.vitest([
      ...['run', '--config=test/vitest.config.ts', '--no-cache', '--no-fsModuleCache', '--bail=1', '--maxWorkers=1'],
      ...[`--testTimeout=${TEST_MS_MAX}`, '--reporter=json', `--outputFile.json=${report}`],
      ...(names.includes('') ? [] : [`--testNamePattern=${pattern}`]),
      ...files,
    ])
    const said = fs.existsSync(report) ? (JSON.parse(fs.readFileSync(report, 'utf8')) as Report) : undefined
    fs.rmSync(report, { force: true })
    if (code === undefined) return { kind: 'hung' }
    return outcomeOf(said, code, output)
  }

  /** Ends what is under way. */
  stop(): void {
    this.child?.kill('SIGKILL')
  }

  private vitest(args: readonly string[]): Promise<{ code: number | undefined; output: string }> {
    return new Promise((resolve, reject) => {
      const tool = path.join('node_modules', 'vitest', 'vitest.mjs')
      const child = spawn(process.execPath, [tool, ...args], { cwd: this.at, stdio: ['ignore', 'pipe', 'pipe'] })
      this.child = child
      let output = ''
      const take = (chunk: Buffer) => {
        output = (output + chunk.toString()).slice(-OUTPUT_CHARS_MAX)
      }
      child.stdout.on('data', take)
      child.stderr.on('data', take)
      let isLate = false
      const late = setTimeout(() => {
        isLate = true
        child.kill('SIGTERM')
        setTimeout(() => child.kill('SIGKILL'), STOP_MS_MAX).unref()
      }, RUN_MS_MAX)
      child.on('error', reject)
      child.on('close', (code) => {
        clearTimeout(late)
        this.child = undefined
        resolve({ code: isLate ? undefined : (code ?? 1), output })
      })
    })
  }
}

/** The part of vitest's report that is read. */
interface Report {
  readonly numPassedTests: number
  readonly testResults: readonly {
    readonly message: string
    readonly assertionResults: readonly { readonly fullName: string; readonly status: string }[]
  }[]
}

function outcomeOf(report: Report | undefined, code: number, output: string): Outcome {
  const failed = report?.testResults
    .flatMap(({ assertionResults }) => assertionResults)
    .find(({ status }) => status === 'failed')
  if (failed !== undefined) return { kind: 'failed', test: failed.fullName }
  if (code === 0 && report !== undefined && report.numPassedTests > 0) return { kind: 'passed' }
  const text = report?.testResults.find(({ message }) => message !== '')?.message ?? output.trim()
  return { kind: 'nothing', text: text === '' ? 'no test has such a name' : text.slice(0, 2_000) }
}
