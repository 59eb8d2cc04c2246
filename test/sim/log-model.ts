// What a log says, read naively: one map per session, one entry per (series, time, segment). The independent judge of an owner's state.

import type { LogMessage } from '../../shared/bus/port.ts'
import { batchSubject, decodeMark, markSubject } from '../../shared/contracts/log.ts'
import { decodeLogBatch } from '../../shared/wire/log-batch.ts'
import { Reader } from '../../shared/wire/varint.ts'

export interface LogModel {
  /** Distinct "segment | series | time". */
  readonly samples: ReadonlySet<string>
  /** Of floats whose series the same messages define. */
  readonly values: ReadonlySet<number>
  /** (session, counter) pairs that stand in the log more than once. */
  readonly doubledBatches: readonly string[]
}

interface Numbers {
  readonly strings: string[]
  readonly series: string[]
}

/** Reads a whole log. Batches that lie behind the mark after next are left out, as owners leave them out. */
export function readLog(partition: number, messages: Iterable<LogMessage>): LogModel {
  const samples = new Set<string>()
  const values = new Set<number>()
  const seen = new Set<string>()
  const doubledBatches: string[] = []
  const sessions = new Map<string, Numbers>()
  let mark = 0
  for (const { subject, payload } of messages) {
    if (subject === markSubject(partition)) mark = decodeMark(payload).number
    if (subject !== batchSubject(partition)) continue
    const batch = decodeLogBatch(payload)
    const session = Buffer.from(batch.session).toString('hex')
    const name = `${session}/${batch.counter}`
    if (seen.has(name)) doubledBatches.push(name)
    seen.add(name)
    if (batch.epoch < mark - 1) continue
    const numbers = sessions.get(session) ?? { strings: [], series: [] }
    sessions.set(session, numbers)
    define(numbers, batch.strings, batch.definitions)
    const ids = new Reader(batch.ids)
    const times = new Reader(batch.times)
    let id = 0
    let time = 0
    for (let i = 0; i < batch.sampleCount; i++) {
      id += ids.zigzag()
      time += times.zigzag()
      samples.add(`${mark}|${numbers.series[id]}|${time}`)
      if (numbers.series[id] !== undefined) values.add(batch.values[i]!)
    }
    const histograms = new Reader(batch.histograms)
    while (histograms.remaining > 0) {
      const series = numbers.series[histograms.uvarint()]
      samples.add(`${mark}|${series}|${histograms.zigzag()}`)
      histograms.bytes(histograms.uvarint())
    }
  }
  return { samples, values, doubledBatches }
}

function define({ strings, series }: Numbers, stringBytes: Uint8Array, definitionBytes: Uint8Array): void {
  const texts = new Reader(stringBytes)
  while (texts.remaining > 0) strings[texts.uvarint()] = texts.text()
  const definitions = new Reader(definitionBytes)
  while (definitions.remaining > 0) {
    const id = definitions.uvarint()
    const tenant = strings[definitions.uvarint()]
    const labels = Array.from({ length: 2 * definitions.uvarint() }, () => strings[definitions.uvarint()])
    const whole = [tenant, ...labels]
    if (!whole.includes(undefined)) series[id] = whole.join('\u0000')
  }
}
