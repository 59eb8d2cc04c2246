// Series that two labels make unwanted are stepped over by their bytes: that must change nothing but the time it takes.
import fc from 'fast-check'
import { expect, test } from 'vitest'
import { labelsFrom } from '../../../shared/model/labels.ts'
import { decodeLabels } from '../../../shared/wire/label-region.ts'
import { readWriteV1, readWriteV2 } from '../../../shared/wire/remote-write.ts'
import { encodeWriteV1, encodeWriteV2 } from '../../../shared/wire/remote-write-encode.ts'
import { type UnwantedLabels, unwantedLabels } from '../../../shared/wire/unwanted.ts'
import type { WriteSink } from '../../../shared/wire/write-sink.ts'

const CLUSTER = 'cluster'
const REPLICA = '__replica__'
const isLoser = (labels: readonly string[]) =>
  labelIn(labels, REPLICA) === 'b' && labelIn(labels, CLUSTER) !== undefined

/** Drops replica b of every cluster; tells what it kept, and how many samples it was told to be skipped. */
class Dropping implements WriteSink {
  unwanted: UnwantedLabels | undefined
  readonly kept: string[] = []
  readonly skippedCounts = { floats: 0, histograms: 0, exemplars: 0 }
  /** Series told, kept or not. */
  told = 0
  private readonly usesUnwanted: boolean

  constructor(usesUnwanted: boolean) {
    this.usesUnwanted = usesUnwanted
  }

  series(bytes: Uint8Array, start: number, end: number): boolean {
    this.told++
    this.unwanted = undefined
    const labels = decodeLabels(bytes, start, end)
    if (isLoser(labels)) {
      if (this.usesUnwanted) this.unwanted = unwantedLabels([CLUSTER, labelIn(labels, CLUSTER)!], [REPLICA, 'b'])
      return false
    }
    this.kept.push(labels.join(','))
    return true
  }
  skipped(floats: number, histograms: number, exemplars: number): void {
    this.skippedCounts.floats += floats
    this.skippedCounts.histograms += histograms
    this.skippedCounts.exemplars += exemplars
  }
  float(time: number, slot: Float64Array): void {
    this.kept.push(`${time} ${slot[0]}`)
  }
  histogram(): void {}
  exemplar(): void {}
  refused(): void {}
  exemplarRefused(): void {}
  metadata(): void {}
  seriesEnd(): void {}
}

function labelIn(labels: readonly string[], name: string): string | undefined {
  for (let i = 0; i < labels.length; i += 2) if (labels[i] === name) return labels[i + 1]
  return undefined
}

/** The labels that are looked for, as bytes within the value of another label. */
const disguise = Array.from(['x', 'y'], (cluster) => {
  const { first, second } = unwantedLabels([CLUSTER, cluster], [REPLICA, 'b'])
  return Buffer.concat([first.region, second.region]).toString('latin1')
})
const anySeries = fc.record({
  cluster: fc.option(fc.constantFrom('x', 'x', 'x', 'y', 'z'.repeat(130)), { nil: undefined }),
  replica: fc.option(fc.constantFrom('a', 'b', 'b'), { nil: undefined }),
  job: fc.constantFrom('node', '', 'long '.repeat(40), ...disguise),
  floats: fc.integer({ min: 1, max: 3 }),
})

test('unwanted labels: what is kept and what is counted is the same, whether series are told or stepped over', () => {
  let saved = 0
  const property = fc.property(fc.array(anySeries, { maxLength: 30 }), (many) => {
    const series = many.map(({ cluster, replica, job, floats }, i) => ({
      labels: labelsFrom({
        __name__: `m${i % 3}`,
        job,
        ...(cluster === undefined ? {} : { [CLUSTER]: cluster }),
        ...(replica === undefined ? {} : { [REPLICA]: replica }),
      }),
      samples: Array.from({ length: floats }, (_, at) => ({ time: 1_700_000_000_000 + at, value: i })),
    }))
    for (const [encode, read] of [[encodeWriteV1, readWriteV1] as const, [encodeWriteV2, readWriteV2] as const]) {
      const bytes = encode({ series })
      const plain = new Dropping(false)
      const quick = new Dropping(true)
      read(bytes, plain)
      read(bytes, quick)
      expect(quick.kept).toEqual(plain.kept)
      expect(quick.skippedCounts).toEqual(plain.skippedCounts)
      expect(plain.told).toBe(series.length)
      saved += plain.told - quick.told
    }
  })
  fc.assert(property, { numRuns: 300 })
  expect(saved).toBeGreaterThan(100)
})

test('unwanted labels: a body cut anywhere is refused, never misread', () => {
  const labels = labelsFrom({ __name__: 'm', [REPLICA]: 'b', [CLUSTER]: 'x', job: 'node' })
  const series = Array.from({ length: 3 }, (_, i) => ({
    labels,
    samples: [{ time: 1_700_000_000_000 + i, value: i + 1 }],
  }))
  const bytes = encodeWriteV1({ series })
  const lengthOfOne = bytes.length / series.length
  for (let length = 1; length < bytes.length; length++) {
    const read = () => readWriteV1(bytes.slice(0, length), new Dropping(true))
    if (length % lengthOfOne === 0) expect(read).not.toThrow()
    else expect(read).toThrow(/unexpected EOF|integer|tag/)
  }
})
