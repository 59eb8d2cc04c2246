// `carillon <command>` as a child process, to its end or to its death.
import { type ChildProcess, spawn } from 'node:child_process'

const ROOT = new URL('../..', import.meta.url).pathname

export interface Ran {
  readonly code: number | null
  readonly out: string
  readonly errors: string
}

export function runCarillon(args: readonly string[], onStart: (child: ChildProcess) => void = () => {}): Promise<Ran> {
  return new Promise((resolve, reject) => {
    const child = spawn(process.execPath, ['services/carillon.mjs', ...args], {
      cwd: ROOT,
      stdio: ['ignore', 'pipe', 'pipe'],
    })
    let out = ''
    let errors = ''
    child.stdout!.on('data', (text) => {
      out += text
    })
    child.stderr!.on('data', (text) => {
      errors += text
    })
    child.once('error', reject)
    child.once('close', (code) => resolve({ code, out, errors }))
    onStart(child)
  })
}
