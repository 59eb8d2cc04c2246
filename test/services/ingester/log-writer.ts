// Writes partition logs by hand, good ones and damaged ones, for the tests of those who read them.
import { Dictionary, NONE } from '../../../services/distributor/log/dictionary.ts'
import { Batch, Session } from '../../../services/distributor/log/session.ts'
import { encodeMark, type Mark } from '../../../shared/contracts/log.ts'

export const TENANT = 'acme'

export class LogWriter {
  readonly dictionary = new Dictionary()
  session: Session | undefined
  private sessionCount = 0

  mark(number: number): Uint8Array {
    const mark: Mark = { number, writer: 'test', nonce: `nonce-${number}` }
    this.session = new Session(new Uint8Array(16).fill(++this.sessionCount), mark, this.dictionary)
    return encodeMark(mark)
  }

  /** One sample of each named series, some with a start time. Call `stored` when the reader is to see that it was acknowledged. */
  batch(
    samples: readonly (readonly [name: string, time: number, value: number, startTime?: number])[],
    session = this.session!,
    tenantId = TENANT,
  ): Batch {
    const batch = new Batch(session)
    samples.forEach(([name, time, value, startTime]) => {
      batch.addFloat(this.refOf(name, tenantId), time, new Uint32Array(new Float64Array([value]).buffer), 0, startTime)
    })
    return batch
  }

  /** The writer's number of a series. */
  refOf(name: string, tenantId = TENANT): number {
    const tenant = this.dictionary.intern(tenantId)
    const bytes = Buffer.from(name)
    const found = this.dictionary.find(tenant, bytes, 0, bytes.length, NONE)
    if (found !== NONE) return found
    const labels = ['__name__', name]
    return this.dictionary.add(tenant, { bytes, start: 0, end: bytes.length }, { labels, hash: 1, partition: 0 }, NONE)
  }
}
