// What the state of a partition is given: strings that it shares with others, and whom it tells what it could not apply.
import type { StringTable } from '../../../shared/tsdb/head/string-table.ts'
import type { DamageKind } from './damage.ts'

export interface PartitionStateOptions {
  /** The life of the log that is applied; '' where nobody asks for places. */
  readonly incarnation?: () => string
  readonly strings: StringTable
  /** `segment` is the one that misses something, `whose` is not for everybody. */
  readonly onDamage: (kind: DamageKind, seq: number, text: string, segment: number, whose?: string) => void
  readonly onSkipped: (seq: number, text: string) => void
  /** Only in the simulation's counter-proof: repeated batches are stored as if they were new. */
  readonly isForgetful: boolean
  /** Only in the simulation, whose segments are short: what was told of metrics is not forgotten. */
  readonly keepsSilent?: boolean
}
