// Which labels name the cluster and the replica of an HA pair: one pair of names for all, others for single tenants.
import { RefusedError } from '../../../shared/base/errors.ts'
import type { DistributorConfig } from '../config.ts'

export interface HaLabels {
  /** Empty: no elections. */
  readonly cluster: string
  readonly replica: string
}

/** Throws RefusedError `err-carillon-ha-tenant-labels` for an entry that is not tenant=cluster:replica. */
export function haLabelsOf(config: DistributorConfig): (tenant: string) => HaLabels {
  const common = { cluster: config.haClusterLabel, replica: config.haReplicaLabel }
  const perTenant = new Map(config.haTenantLabels.map(parseEntry))
  return (tenant) => perTenant.get(tenant) ?? common
}

function parseEntry(entry: string): readonly [string, HaLabels] {
  const match = /^([^=]+)=([^:]*):([^:]*)$/.exec(entry)
  if (match) return [match[1]!, { cluster: match[2]!, replica: match[3]! }]
  const text = `--ha-tenant-labels: "${entry}" is not tenant=cluster:replica, as in team-a=dc:prometheus_replica`
  throw new RefusedError('err-carillon-ha-tenant-labels', text)
}
