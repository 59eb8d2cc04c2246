// What a row of the table of error codes holds.

export interface CodeMeaning {
  /** One sentence for an operator. */
  readonly meaning: string
  /** One sentence: what to do, and whose turn it is. */
  readonly remedy: string
}

export interface RefusedMeaning extends CodeMeaning {
  /** The HTTP status that it leads to where nothing else is said, then those that a place may choose instead. */
  readonly statuses: readonly [number, ...number[]]
  /** Ends a process or a command before it serves anything: no caller gets to see it. */
  readonly atStart?: boolean
}
