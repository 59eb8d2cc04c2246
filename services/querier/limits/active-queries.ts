// The queries that this querier has at work, so that a person can see them and end one. A query is looked up under its tenant: nobody ends,
// or learns of, another tenant's.
import type { Clock } from '../../../shared/base/clock.ts'
import { RefusedError } from '../../../shared/base/errors.ts'
import { hex, type Random } from '../../../shared/base/random.ts'
import { type ActiveQuery, QUERY_SHOWN_MAX } from '../../../shared/contracts/active-queries.ts'
import type { QueryParams } from '../../../shared/contracts/query.ts'
import type { Budget } from './budget.ts'

export interface Begun {
  readonly tenant: string
  readonly kind: string
  readonly params: QueryParams
  readonly requestId: string | undefined
  readonly timeoutMs: number
  readonly budget: Budget
}

export interface ActiveEntry {
  /** Aborts with the error that the query is to be answered with. */
  readonly cancelled: AbortSignal
  runs(): void
  end(): void
}

interface Kept extends Begun {
  readonly controller: AbortController
  readonly sinceMs: number
  readonly startedMs: number
  isRunning: boolean
}

export class ActiveQueries {
  private readonly clock: Clock
  private readonly querier: string
  private readonly life: string
  private readonly entries = new Map<string, Kept>() // as many as may wait and run (admission.ts)
  private count = 0

  constructor({ clock, random, id }: { clock: Clock; random: Random; id: string }) {
    this.clock = clock
    this.querier = id
    this.life = hex(random.bytes(4))
  }

  begin(query: Begun): ActiveEntry {
    const id = `${this.life}-${++this.count}`
    const times = { sinceMs: this.clock.now(), startedMs: this.clock.monotonic() }
    const kept: Kept = { ...query, ...times, controller: new AbortController(), isRunning: false }
    this.entries.set(id, kept)
    return {
      cancelled: kept.controller.signal,
      runs: () => {
        kept.isRunning = true
      },
      end: () => void this.entries.delete(id),
    }
  }

  list(tenant: string | undefined): ActiveQuery[] {
    const shown: ActiveQuery[] = []
    for (const [id, kept] of this.entries) {
      if (tenant !== undefined && kept.tenant !== tenant) continue
      const { kind, params, requestId = '', sinceMs, startedMs, timeoutMs, isRunning, budget } = kept
      shown.push({
        ...{ id, tenant: kept.tenant, kind, query: textOf(params), querier: this.querier, requestId, sinceMs },
        ...{ tookMs: Math.round(this.clock.monotonic() - startedMs), timeoutMs, isRunning },
        ...{ readSeries: budget.seriesCount, readSamples: budget.sampleCount },
      })
    }
    return shown
  }

  /** False where the tenant (absent: any) has no such query. */
  cancel(id: string, tenant: string | undefined): boolean {
    const kept = this.entries.get(id)
    if (kept === undefined || (tenant !== undefined && kept.tenant !== tenant)) return false
    const text = 'the query was cancelled by request (err-carillon-query-cancelled)'
    kept.controller.abort(new RefusedError('err-carillon-query-cancelled', text, { status: 422 }))
    return true
  }
}

function textOf({ query, match = [], selector, name }: QueryParams): string {
  const text = query ?? (match.length > 0 ? match.join(' ') : (selector ?? name ?? ''))
  return text.length > QUERY_SHOWN_MAX ? `${text.slice(0, QUERY_SHOWN_MAX)}…` : text
}
