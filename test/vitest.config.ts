// All tests, two at a time. First those that compute, then those that start systems of many processes and watch their clocks:
// side by side, the former would slow the latter down. Whatever a test starts ends with the process that runs it.
import { defineConfig } from 'vitest/config'

/** The bound of a test that hangs, not of what it asserts: several times what any takes where two cores do much else. */
const hangMsMax = 240_000

const systems = [
  'test/cluster/**/*.test.ts',
  'test/soak/**/*.test.ts',
  'test/attack/**/*.test.ts',
  'test/chaos/**/*.test.ts',
]

export default defineConfig({
  root: new URL('..', import.meta.url).pathname,
  test: {
    pool: 'forks',
    execArgv: [`--import=${new URL('../services/launcher/ends-with.mjs', import.meta.url).href}`],
    maxWorkers: 2,
    testTimeout: hangMsMax,
    hookTimeout: hangMsMax,
    teardownTimeout: 30_000,
    expect: { poll: { timeout: 60_000 } },
    projects: [
      {
        extends: true,
        test: { name: 'computing', include: ['test/**/*.test.ts'], exclude: systems, sequence: { groupOrder: 0 } },
      },
      { extends: true, test: { name: 'systems', include: systems, sequence: { groupOrder: 1 } } },
    ],
  },
})
