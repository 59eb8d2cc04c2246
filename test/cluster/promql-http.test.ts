// Prometheus' promql scripts end to end: pushed by remote write 2.0, asked over HTTP.
import { readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { afterAll, beforeAll, expect, it } from 'vitest'
import { httpGround } from '../spec/promql-http.ts'
import { FEATURES, runScript, SAMPLES_MAX, type ScriptGround } from '../spec/promql-script.ts'
import { type System, startSystem } from './system.ts'

const folder = join(import.meta.dirname, '../spec/promql')
const files = readdirSync(folder).filter((name) => name.endsWith('.test'))

let system: System
let ground: ScriptGround
beforeAll(async () => {
  const features = ['--enable-feature', [...FEATURES].join(',')]
  system = await startSystem({ args: [...features, '--start-timestamps', '--samples-max', String(SAMPLES_MAX)] })
  ground = httpGround(system.url)
})
afterAll(() => system.stop(), 50_000)

it.each(files)('%s passes over HTTP', async (name) => {
  const outcomes = await runScript(readFileSync(join(folder, name), 'utf8'), ground)
  const faults = outcomes.filter(({ fault, skipped }) => fault !== undefined || skipped !== undefined)
  expect(faults.map(({ line, expression, fault, skipped }) => `${line} ${expression}: ${fault ?? skipped}`)).toEqual([])
  expect(outcomes.length).toBeGreaterThan(0)
})
