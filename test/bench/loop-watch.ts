// Loaded into every process of a system under test (NODE_OPTIONS=--import): writes down how long its event loop stood still, four times a
// second, as lines `pid unix-ms longest-ms` in the file that BENCH_LOOPS names.
import fs from 'node:fs'
import { monitorEventLoopDelay } from 'node:perf_hooks'
import { isMainThread } from 'node:worker_threads'

const RESOLUTION_MS = 2
const EVERY_MS = 250

const file = process.env['BENCH_LOOPS']
if (isMainThread && file !== undefined) {
  const delay = monitorEventLoopDelay({ resolution: RESOLUTION_MS })
  delay.enable()
  const timer = setInterval(() => {
    fs.appendFileSync(file, `${process.pid} ${Date.now()} ${(delay.max / 1e6 - RESOLUTION_MS).toFixed(1)}\n`)
    delay.reset()
  }, EVERY_MS)
  timer.unref()
}
