import { expect, test } from 'vitest'
import { distributorSettings } from '../../../services/distributor/config.ts'
import { haLabelsOf } from '../../../services/distributor/ha/ha-labels.ts'
import { defaultsOf } from '../../../shared/config/settings.ts'

const withTenants = (...haTenantLabels: string[]) => haLabelsOf(defaultsOf(distributorSettings, { haTenantLabels }))

test('a tenant may name cluster and replica its own way, or have no elections; the others keep the common names', () => {
  const labelsOf = withTenants('team-a=dc:prometheus_replica', 'team-b=:')
  expect(labelsOf('team-a')).toEqual({ cluster: 'dc', replica: 'prometheus_replica' })
  expect(labelsOf('team-b')).toEqual({ cluster: '', replica: '' })
  expect(labelsOf('team-c')).toEqual({ cluster: 'cluster', replica: '__replica__' })
})

test.each(['team-a', 'team-a=dc', '=dc:r', 'team-a=dc:r:x'])('%s is refused with what is wanted', (entry) => {
  expect(() => withTenants(entry)).toThrow('is not tenant=cluster:replica')
})
