// What an ingester opens when it starts and closes when it ends: the bucket of logs, blocks, what is set aside, and what is lost for good.
import { assert } from '../../shared/base/assert.ts'
import { openBlocks } from '../../shared/blocks/open.ts'
import type { Blocks } from '../../shared/blocks/port.ts'
import type { KvBucket } from '../../shared/bus/port.ts'
import { LOG_BUCKET } from '../../shared/contracts/log.ts'
import type { ServiceDeps } from '../../shared/membership/deps.ts'
import type { IngesterConfig } from './config.ts'
import { Asides } from './flush/asides.ts'
import { Gaps } from './flush/gaps.ts'

export type StoresDeps = Pick<ServiceDeps, 'bus' | 'objects' | 'clock' | 'random' | 'log' | 'metrics' | 'id'> & {
  readonly config: IngesterConfig
}

interface Opened {
  readonly bucket: KvBucket
  readonly blocks: Blocks
  readonly asides: Asides
  readonly gaps: Gaps
}

export class Stores {
  readonly #deps: StoresDeps
  #opened: Opened | undefined

  constructor(deps: StoresDeps) {
    this.#deps = deps
    deps.metrics.gaugeOf(
      'carillon_flush_asides',
      'Segments of single tenants that are set aside and in no block yet, as this ingester has heard.',
      () => this.all.asides.count,
    )
  }

  /** Not before `open`. */
  get all(): Opened {
    assert(this.#opened !== undefined, 'the stores of an ingester are open before anything is asked of them')
    return this.#opened
  }

  get blocks(): Blocks {
    return this.all.blocks
  }

  get asides(): Asides {
    return this.all.asides
  }

  get gaps(): Gaps {
    return this.all.gaps
  }

  async open(): Promise<void> {
    const { bus, objects, clock, random, log, metrics, id, config } = this.#deps
    const bucket = await bus.bucket(LOG_BUCKET)
    const blocks = await openBlocks({ bus, objects, clock, random, log, metrics })
    const asides = new Asides({ blocks, clock, random, log, metrics, id, patienceMs: config.flushPatienceMs })
    const gaps = new Gaps({ blocks, clock, log, metrics })
    this.#opened = { bucket, blocks, asides, gaps }
    await asides.start()
    await gaps.start()
  }

  close(): void {
    const { asides, gaps, blocks } = this.all
    asides.stop()
    gaps.stop()
    blocks.close()
  }
}
