// What an owner is at. One value, and each phase holds what is needed only while it lasts: what is left behind with a phase is gone.
//
//   new → replaying → following → stopped (from everywhere)
//            ↑ ↓        ↑ ↓
//      rewound → mending         replaying, following → too-new
import type { Checkpoint } from '../../../shared/contracts/log.ts'
import type { Reading } from './reading.ts'

export type Phase =
  /** Nothing is delivered yet. */
  | { readonly kind: 'new' }
  | Replaying
  | Following
  /** The log was found to be another than the one applied: nothing is applied until it is known from where on. */
  | { readonly kind: 'rewound'; readonly was: Replaying | Following }
  /** It is being looked where the log still agrees with what was applied. */
  | { readonly kind: 'mending'; readonly was: Replaying | Following }
  /** A newer version wrote what cannot be read, in words: from here on nothing is answered, led, flushed, purged or dropped, until it stops. */
  | { readonly kind: 'too-new'; readonly reading: Reading; readonly text: string }
  /** Its memory was given back. */
  | { readonly kind: 'stopped' }

/** Until an end of the log is met for the first time: what is known to have stood in the log is looked for. */
export interface Replaying {
  readonly kind: 'replaying'
  readonly reading: Reading
  /** The newest message that this owner had applied when it ran before. */
  readonly checkpoint: Checkpoint | undefined
}

export interface Following {
  readonly kind: 'following'
  readonly reading: Reading
}

/** What has to be closed when the phase is left for good. */
export function readingOf(phase: Phase): Reading | undefined {
  if (phase.kind === 'rewound' || phase.kind === 'mending') return phase.was.reading
  return phase.kind === 'new' || phase.kind === 'stopped' ? undefined : phase.reading
}
