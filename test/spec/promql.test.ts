// Prometheus' own promql scripts, as parts of the specification: no file may pass fewer cases than it did.
import { readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { describe, expect, it } from 'vitest'
import { runScript } from './promql-script.ts'

const folder = join(import.meta.dirname, 'promql')

/** Cases that must pass: all of them, in every file. */
const FLOORS: Readonly<Record<string, number>> = {
  aggregators: 96,
  at_modifier: 48,
  collision: 1,
  duration_expression: 38,
  extended_vectors: 114,
  'fill-modifier': 26,
  functions: 263,
  group_names: 4,
  histograms: 119,
  info: 34,
  label_texts: 11,
  limit: 24,
  literals: 16,
  name_label_dropping: 22,
  native_histograms: 337,
  operators: 139,
  range_queries: 14,
  selectors: 21,
  staleness: 13,
  start_timestamps: 17,
  subquery: 23,
  trig_functions: 12,
  type_and_unit: 36,
}

describe('promql scripts', () => {
  it('has a floor for every script', () => {
    const scripts = readdirSync(folder).filter((name) => name.endsWith('.test'))
    expect(scripts.map((name) => name.replace('.test', '')).sort()).toEqual(Object.keys(FLOORS).sort())
  })

  it.each(Object.entries(FLOORS))('%s.test passes all of its %i cases', async (name, floor) => {
    const outcomes = await runScript(readFileSync(join(folder, `${name}.test`), 'utf8'))
    const faults = outcomes.filter(({ fault }) => fault !== undefined)
    expect(faults.map(({ line, expression, fault }) => `${name}.test:${line} ${expression}: ${fault}`)).toEqual([])
    expect(outcomes.length).toBeGreaterThanOrEqual(floor)
  })
})
