// How long tenants keep samples: what compactors tell, and what doors make of it.
import { afterEach, expect, test } from 'vitest'
import { policiesFrom } from '../../../services/compactor/plan/retention-policy.ts'
import { ToldKeep } from '../../../services/compactor/plan/told-keep.ts'
import { systemClock } from '../../../shared/base/clock.ts'
import { UnavailableError } from '../../../shared/base/errors.ts'
import { seededRandom } from '../../../shared/base/random.ts'
import { createMemoryHub } from '../../../shared/bus/memory/memory-bus.ts'
import type { Bus } from '../../../shared/bus/port.ts'
import { keepRecord } from '../../../shared/contracts/keep.ts'
import { readKeepMs, type TenantKeep, watchKeep } from '../../../shared/limits/keep.ts'
import { silentLog } from '../../../shared/telemetry/log.ts'
import { createMetrics } from '../../../shared/telemetry/metrics.ts'
import { until } from '../../waiting.ts'

const DAY = 86_400_000
const settings = { keepMs: 30 * DAY, keepBytesMax: 0, downsample: false }
const watches: TenantKeep[] = []
afterEach(() => {
  for (const watch of watches.splice(0)) watch.stop()
})

function ground() {
  const hub = createMemoryHub({ clock: systemClock, random: seededRandom(1) })
  const deps = { bus: hub.connect('compactor-1'), clock: systemClock, log: silentLog, metrics: createMetrics() }
  let policies = policiesFrom(settings, '')
  const toldBy = (id: string, bus: Bus = deps.bus) =>
    new ToldKeep({
      ...{ ...deps, bus, id },
      policies: {
        of: (tenant) => policies.of(tenant),
        get tenants() {
          return policies.tenants
        },
        get others() {
          return policies.others
        },
      },
    })
  const hold = (text: string) => {
    policies = policiesFrom(settings, text)
  }
  return { ...deps, hub, toldBy, hold }
}

async function watched({ hub, ...deps }: ReturnType<typeof ground>): Promise<TenantKeep> {
  const keep = watchKeep({ ...deps, bus: hub.connect('distributor-1') })
  watches.push(keep)
  await keep.start()
  return keep
}

test('LIMIT-3: what nobody has told is for ever; then each tenant has what its series are kept for at most', async () => {
  const all = ground()
  const keep = await watched(all)
  expect(keep.of('acme')).toBe(Number.POSITIVE_INFINITY)
  all.hold(
    '{default: {keep: 400d}, tenants: {acme: {keep: 3d, rules: [{selector: "a", keep: 7d}]}, "team.b": {keep: 0}}}',
  )
  await all.toldBy('compactor-1').tell()
  await until('the door has heard', () => keep.of('acme') === 7 * DAY)
  const wanted = { acme: 7 * DAY, 'team.b': Number.POSITIVE_INFINITY, other: 400 * DAY }
  for (const [tenant, keepMs] of Object.entries(wanted)) {
    expect(keep.of(tenant)).toBe(keepMs)
    expect(await readKeepMs(all.bus, tenant)).toBe(keepMs)
  }
})

test('a change of the file is told, and a tenant that is not named any more is as all others', async () => {
  const all = ground()
  const keep = await watched(all)
  all.hold('{tenants: {acme: {keep: 3d}, globex: {keep: 5d}}}')
  const told = all.toldBy('compactor-1')
  await told.tell()
  await until('the door has heard', () => keep.of('globex') === 5 * DAY)
  all.hold('{tenants: {globex: {keep: 6d}}}')
  await told.tell()
  expect(await readKeepMs(all.bus, 'globex'), 'nobody said that it changed').toBe(5 * DAY)
  told.changed()
  await told.tell()
  await until('the door has heard', () => keep.of('globex') === 6 * DAY && keep.of('acme') === 30 * DAY)
})

test('compactors with the same settings write once; a record is told again after a failure', async () => {
  const all = ground()
  const bucket = await all.bus.bucket(keepRecord.bucket)
  let isAway = true
  const bus = {
    ...all.bus,
    async bucket(name: string) {
      if (isAway) throw new UnavailableError('kv-unavailable', 'not now')
      return all.bus.bucket(name)
    },
  }
  const told = all.toldBy('compactor-1', bus)
  await told.tell()
  expect(await bucket.get('keep.__default')).toBeUndefined()
  isAway = false
  await told.tell()
  const first = await bucket.get('keep.__default')
  await all.toldBy('compactor-2').tell()
  expect((await bucket.get('keep.__default'))?.revision).toBe(first?.revision)
})

test('LIMIT-3: of a record that cannot be read, what it said before holds', async () => {
  const all = ground()
  const keep = await watched(all)
  await all.toldBy('compactor-1').tell()
  await until('the door has heard', () => keep.of('acme') === 30 * DAY)
  const bucket = await all.bus.bucket(keepRecord.bucket)
  await bucket.put('keep.__default', Buffer.from('{"v":2}'))
  await bucket.put('keep.acme', Buffer.from('junk'))
  await until('the door has heard', () => keep.of('acme') === Number.POSITIVE_INFINITY) // nothing was ever said of it
  expect(keep.of('globex')).toBe(30 * DAY)
})
