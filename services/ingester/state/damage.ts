// Damage: what the checks of a log found wrong, named and counted (LOG-10). A log is checked, not trusted.

export type DamageKind =
  | 'gap' // sequences are missing that no purge explains
  | 'rewind' // the log ends before, or differs from, what was applied or is known to be stored
  | 'bad-checksum' // a message does not match its CRC, or is no batch
  | 'newer-version' // a batch or mark that a newer version of Carillon wrote: this owner does not count as caught up any more
  | 'undefined-id' // a sample names a series that nobody defined
  | 'unstorable' // samples whose times or counts no chunk can keep: versions before they were bounded at the door let them in
  | 'bad-reference' // a batch names a predecessor that is absent or lies ahead
  | 'bad-mark' // a mark is unreadable or out of order
  | 'unknown-epoch' // a batch names a mark that the log does not hold

export interface Damage {
  readonly kind: DamageKind
  readonly fromSeq: number
  readonly toSeq: number
  /** The segment that misses something. */
  readonly segment: number
  /** The life of the log in which it was met. */
  readonly incarnation: string
  readonly text: string
  /** `open` until every other live owner was asked. */
  state: 'open' | 'filled' | 'missing'
}

/** Entries kept per partition; beyond it only the counters go on. */
export const DAMAGES_MAX = 1000

export function describe(damage: Damage): string {
  const range = damage.fromSeq === damage.toSeq ? `${damage.fromSeq}` : `${damage.fromSeq}-${damage.toSeq}`
  return `${damage.kind} at ${range} in segment ${damage.segment}: ${damage.text} (${damage.state})`
}
