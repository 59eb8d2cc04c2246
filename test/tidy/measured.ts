// The functions of the project that are longer or more complex than they should be, as Biome measures them.
import { execFileSync } from 'node:child_process'
import path from 'node:path'
import { readSource, root } from './sources.ts'

/** By `file name`: lines without blank ones, or cognitive complexity. Functions of one name in one file share the larger figure. */
export type Measured = Readonly<Record<string, number>>

interface Diagnostic {
  readonly category: string
  readonly message: string
  readonly location: {
    readonly path: string
    readonly start: { readonly line: number; readonly column: number }
  }
}

const outputBytesMax = 64 * 1024 * 1024
const runMsMax = 60_000

/** What exceeds the bounds of functions.biome.json. */
export function measuredFunctions(folders: readonly string[]): { readonly long: Measured; readonly complex: Measured } {
  const diagnostics = lint(folders)
  return {
    long: figuresOf(diagnostics, 'lint/complexity/noExcessiveLinesPerFunction'),
    complex: figuresOf(diagnostics, 'lint/complexity/noExcessiveCognitiveComplexity'),
  }
}

function lint(folders: readonly string[]): readonly Diagnostic[] {
  const config = path.join(import.meta.dirname, 'functions.biome.json')
  const biome = path.join(root, 'node_modules/@biomejs/biome/bin/biome')
  const args = [biome, 'lint', `--config-path=${config}`, '--reporter=json', '--max-diagnostics=none', ...folders]
  const output = jsonOf(() =>
    execFileSync(process.execPath, args, {
      ...{ cwd: root, encoding: 'utf8', maxBuffer: outputBytesMax, timeout: runMsMax },
      stdio: ['ignore', 'pipe', 'pipe'],
    }),
  )
  return (JSON.parse(output) as { diagnostics: readonly Diagnostic[] }).diagnostics
}

/** Biome's exit code is 1 when it finds anything. */
function jsonOf(run: () => string): string {
  try {
    return run()
  } catch (error) {
    const { status, stdout } = error as { status?: number; stdout?: string }
    if (status === 1 && stdout !== undefined && stdout !== '') return stdout
    throw error
  }
}

function figuresOf(diagnostics: readonly Diagnostic[], category: string): Measured {
  const figures: Record<string, number> = {}
  for (const { message, location, ...diagnostic } of diagnostics) {
    if (diagnostic.category !== category) continue
    const name = `${location.path} ${nameAt(readSource(location.path).lines, location.start)}`
    const figure = Number(/\d+/.exec(message)?.[0])
    figures[name] = Math.max(figures[name] ?? 0, figure)
  }
  return figures
}

/** The function's own name; of one that has none, the nearest before it. */
function nameAt(lines: readonly string[], { line, column }: Diagnostic['location']['start']): string {
  const own = /^(?:async )?(?:function\*? )?(#?\w+)\s*[(<]/.exec((lines[line - 1] ?? '').slice(column - 1))?.[1]
  if (own !== undefined) return own
  for (let at = line - 1; at >= 0; at--) {
    const text = at === line - 1 ? lines[at]!.slice(0, column - 1) : lines[at]!
    const before =
      /\bfunction\*? (\w+)|\b(?:const|let) (\w+) = (?:async )?\(|^ {2}(?:private |async |get )*(#?\w+)[(<].*\{$/.exec(
        text,
      )
    const name = before?.[1] ?? before?.[2] ?? before?.[3]
    if (name !== undefined) return name
  }
  return '(module)'
}
