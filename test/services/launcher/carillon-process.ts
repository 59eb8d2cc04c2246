// Runs `carillon start` as a user does, and reads what it says.
import { type ChildProcess, spawn } from 'node:child_process'
import fs from 'node:fs'
import os from 'node:os'
import path from 'node:path'

const entry = path.resolve(import.meta.dirname, '../../../services/carillon.mjs')

export interface Ready {
  readonly push: string
  readonly query: string
  readonly nats: string
  readonly natsUserFile: string
  readonly durability: string
  readonly launcher: number
  readonly processes: readonly {
    readonly pid: number
    readonly role: string
    readonly id: string
    readonly address?: string
  }[]
}

export interface Launched {
  readonly child: ChildProcess
  readonly ready: Promise<Ready>
  readonly ended: Promise<{ code: number | null; signal: NodeJS.Signals | null }>
  stderr(): string
}

export function launch(args: readonly string[], env: Readonly<Record<string, string>> = {}): Launched {
  const child = spawn(process.execPath, [entry, ...args], {
    stdio: ['ignore', 'pipe', 'pipe'],
    env: { ...process.env, ...env },
  })
  let [out, err] = ['', '']
  child.stderr.on('data', (chunk) => {
    err += chunk
  })
  const ended: Launched['ended'] = new Promise((resolve) =>
    child.on('close', (code, signal) => resolve({ code, signal })),
  )
  const ready = new Promise<Ready>((resolve, reject) => {
    child.stdout.on('data', (chunk) => {
      out += chunk
      if (out.includes('\n')) resolve(JSON.parse(out.slice(0, out.indexOf('\n'))))
    })
    void ended.then(({ code }) => reject(new Error(`ended with ${code} before it was ready:\n${err}`)))
  })
  ready.catch(() => {}) // a test that wants the failure awaits `ended`
  return { child, ready, ended, stderr: () => err }
}

export function startArgs(data: string, ...more: string[]): string[] {
  return ['start', '--listen=127.0.0.1:0', '--output=json', `--data=${data}`, ...more]
}

export function temporaryFolder(): string {
  return fs.mkdtempSync(path.join(os.tmpdir(), 'carillon-launcher-'))
}

/** Whether a process runs; one that waits to be collected does not. */
export function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0)
    if (process.platform !== 'linux') return true
    return !/\) [ZX] /.test(fs.readFileSync(`/proc/${pid}/stat`, 'utf8'))
  } catch {
    return false
  }
}
