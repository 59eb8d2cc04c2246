// What stands in a bucket and cannot be read is passed over: named in the log once per entry, and counted.
import type { Decoded, RecordKey } from '../bus/record.ts'
import type { Log } from '../telemetry/log.ts'
import type { Counter, Metrics } from '../telemetry/metrics.ts'

/** Where it is told: both in an actor; a command tells whoever gave it. */
export interface Told {
  readonly log?: Log | undefined
  readonly metrics?: Metrics | undefined
}

export type Unread = Exclude<Decoded<never>, { readonly kind: 'value' }>

/** Entries that were named; more are named again. */
const NAMED_MAX = 10_000
const METRIC = 'carillon_records_passed_over_total'
const HELP = 'Entries of KV buckets that could not be read, by the kind of record and why.'

export class PassedOver {
  readonly #log: Log | undefined
  readonly #count: Counter | undefined
  /** By bucket and key: the newest revision named. */
  readonly #named = new Map<string, number>()

  constructor({ log, metrics }: Told) {
    this.#log = log
    this.#count = metrics?.counter(METRIC, HELP, ['record', 'reason'])
  }

  note(place: RecordKey<string>, { key, revision }: { key: string; revision: number }, unread: Unread): void {
    const name = `${place.bucket}/${key}`
    if (this.#named.get(name) === revision) return
    this.#named.delete(name)
    if (this.#named.size >= NAMED_MAX) this.#named.delete(this.#named.keys().next().value!)
    this.#named.set(name, revision)
    this.#count?.with({ record: place.name, reason: unread.kind }).inc()
    const text =
      unread.kind === 'newer-version'
        ? `a record (${place.name}) was written by a newer version and is passed over: ${place.newer}`
        : `a record (${place.name}) cannot be read and is passed over: ${place.unreadable}`
    this.#log?.warn({ bucket: place.bucket, key: key.slice(0, 300), revision, reason: unread.reason }, text)
  }
}

/** One for all that tell the same metrics: whoever meets an entry second does not name it again. */
const known = new WeakMap<Metrics, PassedOver>()

export function passedOver(told: Told): PassedOver {
  if (told.metrics === undefined) return new PassedOver(told)
  let one = known.get(told.metrics)
  if (one === undefined) {
    one = new PassedOver(told)
    known.set(told.metrics, one)
  }
  return one
}
