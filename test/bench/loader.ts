// Starts the load generator and waits for what it tells.
import { fork } from 'node:child_process'
import path from 'node:path'
import type { LoadOrder, LoadResult } from './load.ts'

const file = path.join(import.meta.dirname, 'load.ts')

export function runLoad(order: LoadOrder): Promise<LoadResult> {
  return new Promise((resolve, reject) => {
    const child = fork(file, { execArgv: [], stdio: ['ignore', 'inherit', 'inherit', 'ipc'] })
    let told: { result?: LoadResult; failure?: string } = {}
    child.on('message', (message) => {
      told = message as typeof told
    })
    child.on('exit', (code) => {
      if (told.result !== undefined) resolve(told.result)
      else reject(new Error(`the load generator failed: ${told.failure ?? `exit ${code}`}`))
    })
    child.send(order)
  })
}

/** The value below which `share` of the rising `values` lie. */
export function percentile(values: readonly number[], share: number): number {
  return values[Math.min(values.length - 1, Math.floor(values.length * share))] ?? Number.NaN
}
