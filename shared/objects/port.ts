// The port to the object store: where blocks live. Objects are immutable: made once, read in ranges, deleted whole.
//
// Names are made of [A-Za-z0-9_.-] parts joined by `/`, e.g. `team_2Ea/01JD…/chunks/000001` (names.ts).
//
// Errors: UnavailableError `objects-unavailable` | `objects-timeout` | `objects-full`: may pass. What create had begun stays invisible, but
//         for one case: a timeout of the very last step, after which the object may stand; creating it again tells.
//         ConflictError `object-exists`: there is an object of that name with other bytes.
//         CorruptError `object-damaged`: what is stored is not what was written. CorruptError `object-missing`: a read of an object that
//         is not there; whoever lists an object elsewhere must never take it for an empty one.
export interface ObjectInfo {
  readonly name: string
  /** Bytes as given, whatever the store makes of them at rest. */
  readonly size: number
  /** SHA-256 of the bytes as given, 64 hex digits. */
  readonly sha256: string
  /** Bytes at rest. */
  readonly storedSize: number
  /** The store's own time, ms since 1970: only for ages of garbage. */
  readonly storedAtMs: number
  /** Only in lists: what describes the object cannot be read, in words. Its size and hash are unknown then (0, ''), its parts may be whole. */
  readonly damage?: string
}

export interface ObjectCall {
  readonly timeoutMs: number
  readonly signal?: AbortSignal
}

export interface ReadCall extends ObjectCall {
  /** The caller changes nothing of what it is given, so that it may be given what others have as well. */
  readonly mayShare?: boolean
}

export interface CreateCall extends ObjectCall {
  /** Reads everything back and compares before it says that the object stands, also when it stood there already. */
  readonly readBack?: boolean
  /** With `readBack`, for names that say what the bytes are: where what stands there is damaged, these bytes take its place in one step. Nobody
   *  finds nothing there meanwhile, and whoever does it late, or for nothing, changes nothing. */
  readonly heals?: boolean
}

/** What a sweep took away. */
export interface Swept {
  readonly count: number
  readonly bytes: number
}

export interface ObjectStore {
  readonly kind: 'jetstream' | 'directory' | 'memory'
  /** Ranges that cross no multiple of this are shared. Absent: none are. */
  readonly pieceBytes?: number
  /** Create-only. Success when the very same bytes stand there already. Visible only when it is whole. At most CREATE_MS_MAX. */
  create(name: string, bytes: Uint8Array, call: CreateCall): Promise<ObjectInfo>
  info(name: string, call: ObjectCall): Promise<ObjectInfo | undefined>
  /** Bytes [start, end), checked. A range beyond the end is CorruptError `object-damaged`. The bytes are the caller's, unless it
   *  may share them. */
  read(name: string, range: { start: number; end: number }, call: ReadCall): Promise<Uint8Array>
  /** Objects whose name begins with `prefix`, in no particular order; one that is damaged hides no other. Not for hot paths. */
  list(prefix: string, call: ObjectCall): Promise<ObjectInfo[]>
  /** Nothing happens where there is none. */
  delete(name: string, call: ObjectCall): Promise<void>
  /** Removes what creates and deletes that broke off have left, if it is older. At least SWEEP_AGE_MS_MIN: what a create still writes stays. */
  sweep(olderThanMs: number, call: ObjectCall): Promise<Swept>
  close(): Promise<void>
}

/** Bounds that keep a sweep away from a create that is under way, clocks apart by minutes included. */
export const CREATE_MS_MAX = 10 * 60_000
export const SWEEP_AGE_MS_MIN = 30 * 60_000
