// What a kind of query is given, and what it gives back.
import type { Breath } from '../../../shared/base/breathing.ts'
import type { QueryParams } from '../../../shared/contracts/query.ts'
import type { Budget } from '../limits/budget.ts'
import type { QueryBounds } from '../limits/tenant-limits.ts'
import type { ReadScope } from '../read/partition-reader.ts'
import type { BodyPart, Notes } from './response.ts'

/** One question under way. */
export interface Asked {
  readonly params: QueryParams
  readonly budget: Budget
  readonly bounds: QueryBounds
  /** For what is long before and after it runs; while it runs its scope has one. */
  readonly breath: Breath
  /** Runs `work` when it is this query's turn, with what reading needs to know. Parameters are read before. */
  run<T>(timeoutMs: number | undefined, work: (scope: ReadScope) => Promise<T>): Promise<T>
  /** Where the answer may come in pieces: takes the next one, and resolves when more is wanted. */
  readonly give?: ((piece: Uint8Array) => Promise<void>) | undefined
}

/** The JSON of `data` (undefined: none); `notes` beside what reading warned of. */
export interface Answer {
  readonly data: readonly BodyPart[] | undefined
  readonly notes?: Notes
  /** The whole body, of kinds with a shape of their own. */
  readonly raw?: readonly Uint8Array[]
}

export type AnswerKind = (asked: Asked) => Promise<Answer>
