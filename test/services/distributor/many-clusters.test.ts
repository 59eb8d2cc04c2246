// A push with as many clusters as series: refused in about the time of any push of that size, and nothing of it stays.
import { expect, test } from 'vitest'
import { admit } from '../../../services/distributor/admit/admit.ts'
import { Staged } from '../../../services/distributor/admit/staged.ts'
import { distributorSettings } from '../../../services/distributor/config.ts'
import { Elections } from '../../../services/distributor/ha/elections.ts'
import { Dictionary } from '../../../services/distributor/log/dictionary.ts'
import { systemClock } from '../../../shared/base/clock.ts'
import { seededRandom } from '../../../shared/base/random.ts'
import { createMemoryHub } from '../../../shared/bus/memory/memory-bus.ts'
import { defaultsOf } from '../../../shared/config/settings.ts'
import { silentLog } from '../../../shared/telemetry/log.ts'
import { createMetrics } from '../../../shared/telemetry/metrics.ts'
import { encodeWriteV1 } from '../../../shared/wire/remote-write-encode.ts'
import { compress } from '../../../shared/wire/snappy.ts'

const SERIES = 25_000

function bodyOf(label: string): Uint8Array {
  const series = Array.from({ length: SERIES }, (_, i) => ({
    labels: ['__name__', 'm', '__replica__', 'r1', label, `c${i}`],
    samples: [{ time: 1_000, value: 1 }],
  }))
  return compress(encodeWriteV1({ series }))
}

function distributor() {
  const random = seededRandom(1)
  const bus = createMemoryHub({ clock: systemClock, random }).connect('distributor-1')
  const config = defaultsOf(distributorSettings)
  const elections = new Elections({ bus, clock: systemClock, random, config, log: silentLog, metrics: createMetrics() })
  const dictionary = new Dictionary()
  const context = {
    ...{ dictionary, tenant: 'acme', config, nowMs: 1_000, keepMs: Number.POSITIVE_INFINITY },
    ...{ partitionOf: () => 0, elections },
    haLabels: { cluster: 'cluster', replica: '__replica__' },
  }
  return { config, dictionary, elections, context }
}

/** Milliseconds of the fastest of some. */
function fastest(body: Uint8Array): number {
  const times = Array.from({ length: 5 }, () => {
    const { context } = distributor()
    const began = performance.now()
    admit(1, body, new Staged(), context)
    return performance.now() - began
  })
  return Math.min(...times)
}

test('25,000 clusters of one push take no longer than 25,000 series without any, by more than a few times', () => {
  expect(fastest(bodyOf('cluster'))).toBeLessThan(4 * fastest(bodyOf('other')))
})

test('nothing stays of those that are refused: no series, no string, no election', () => {
  const { config, dictionary, elections, context } = distributor()
  const staged = new Staged()
  admit(1, bodyOf('cluster'), staged, context)
  expect(staged.claims.size).toBe(config.haClustersMax)
  expect(staged.discarded.get('too_many_ha_clusters')).toBe(SERIES - config.haClustersMax)
  expect(dictionary.size).toBe(config.haClustersMax)
  expect(dictionary.strings.length).toBeLessThan(config.haClustersMax + 10)
  for (const claim of staged.claims.values()) elections.letGo(claim)
  const others = Array.from({ length: config.haClustersMax + 1 }, (_, i) => {
    return { tenant: 'acme', cluster: `other${i}`, key: `acme.other${i}` }
  })
  const taken = others.filter((name) => elections.mayClaim(name) && elections.claim(name, 'a'))
  expect(taken.length, 'all places are free again').toBe(config.haClustersMax)
})
