// The dictionary that pushes use: begun afresh when it is full, when most of it is old, or when series go elsewhere. A push that waits keeps the
// one that it began with.
import type { Log } from '../../../shared/telemetry/log.ts'
import type { Metrics } from '../../../shared/telemetry/metrics.ts'
import type { DistributorConfig } from '../config.ts'
import { Dictionary } from './dictionary.ts'

export interface CurrentDictionaryDeps {
  readonly config: DistributorConfig
  readonly log: Log
  readonly metrics: Metrics
}

/** A dictionary with fewer series is not worth beginning afresh, however old they are. */
const SMALL = 50_000

export class CurrentDictionary {
  readonly #config: DistributorConfig
  readonly #log: Log
  #dictionary = new Dictionary()

  constructor({ config, log, metrics }: CurrentDictionaryDeps) {
    this.#config = config
    this.#log = log
    metrics.gaugeOf(
      'carillon_distributor_dictionary_series',
      'Series that the dictionary knows.',
      () => this.#dictionary.size,
    )
    metrics.gaugeOf(
      'carillon_distributor_dictionary_bytes',
      'Bytes that the dictionary holds.',
      () => this.#dictionary.bytes,
    )
  }

  /** The one for a push that begins. */
  forPush(): Dictionary {
    if (this.#dictionary.size >= this.#config.dictionarySeriesMax) this.renew()
    return this.#dictionary
  }

  renew(): void {
    this.#dictionary = new Dictionary()
  }

  /** Starts afresh when most of it was not used since the last review. */
  review(): void {
    const { size } = this.#dictionary
    const usedCount = this.#dictionary.countUsed()
    const isOld = size > SMALL && usedCount < size / 2
    if (!isOld && size < this.#config.dictionarySeriesMax) return
    this.#log.info({ series: size, used: usedCount }, 'the dictionary starts afresh')
    this.renew()
  }
}
