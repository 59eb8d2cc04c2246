// leases: who may do something with a tenant's blocks (shared/kv/leases.ts). Which leases there are stands with what they allow.
import { jsonRecord } from '../bus/record.ts'
import { aCount, aNumber, aText, aWhole } from '../bus/shape.ts'

export interface LeaseRecord {
  readonly v: 1
  /** '' when nobody holds it. */
  readonly holder: string
  readonly incarnation: string
  /** Rises with every taking. */
  readonly fence: number
  /** Counts the renewals, so that each is another entry. */
  readonly beat: number
  /** Wall clock of the holder; for people. */
  readonly renewedAtMs: number
}

export const leaseFormat = jsonRecord<LeaseRecord>(1, {
  ...{ holder: aText, incarnation: aText, fence: aCount, beat: aWhole },
  renewedAtMs: aNumber,
})

export const leaseFallback = {
  unreadable: 'it is taken for that of somebody, and may be taken once it has not changed for --lease',
  newer: 'it is left to that version, however long it is silent',
}
