// Senders push one body after the other, each again and again until it is acknowledged, as a Prometheus does.
import { UnavailableError } from '../../shared/base/errors.ts'
import type { Random } from '../../shared/base/random.ts'
import { ask } from '../../shared/bus/ask.ts'
import type { Bus } from '../../shared/bus/port.ts'
import { push } from '../../shared/contracts/write.ts'
import type { Histogram } from '../../shared/model/histogram.ts'
import { labelsFrom } from '../../shared/model/labels.ts'
import { STALE } from '../../shared/model/sample.ts'
import { encodeWriteV1, encodeWriteV2, type PlainSeries } from '../../shared/wire/remote-write-encode.ts'
import { compress } from '../../shared/wire/snappy.ts'
import type { Ledger, Send, Shipment } from './ledger.ts'
import { type Scene, TENANTS } from './scene.ts'

export const SENDERS = 3
/** Samples lie this far back, so that their ranges are over and may be merged. */
export const BACK_MS = 4 * 3_600_000
const TRIES_MAX = 200
const TIMEOUT_MS = 1_500
const PAUSE_MS_MAX = 60
const START_BEFORE_MS = 5_000

export async function sender(scene: Scene, ledger: Ledger, number: number): Promise<void> {
  const { clock, hub, plan } = scene
  const bus = hub.connect(`sender-${number}`)
  const random = plan.random(`sender ${number}`)
  const tenant = TENANTS[number % TENANTS.length]!
  for (let round = 0; scene.isChaos(); round++) {
    const startMs = clock.startMs - BACK_MS
    const at = { tenant, sender: number, round, startMs, begun: scene.moment(), hasKinds: plan.has('kinds') }
    const shipment = ledger.draw(random, at)
    const exemplar = `${number}-${round}`
    scene.count('pushes')
    const isDone = await pushUntilAcknowledged(scene, ledger, { bus, shipment, exemplar, random })
    if (!isDone) return scene.fault(`a push of sender ${number} was never acknowledged`)
    ledger.acknowledge(shipment, scene.moment())
    ledger.noteExemplar(tenant, exemplar)
    await scene.sleep(random.below(PAUSE_MS_MAX))
  }
}

async function pushUntilAcknowledged(
  scene: Scene,
  ledger: Ledger,
  { bus, shipment, exemplar, random }: { bus: Bus; shipment: Shipment; exemplar: string; random: Random },
): Promise<boolean> {
  const { tenant } = shipment
  const request = bodyOf(shipment, exemplar, scene.plan.has('kinds'))
  if (scene.plan.has('doubles')) ledger.repeat(shipment)
  for (let tries = 0; tries < TRIES_MAX; tries++) {
    try {
      const reply = await ask(bus, push, { tenant }, request, { timeoutMs: TIMEOUT_MS })
      if (reply.refusal !== undefined) scene.fault(`a push is refused: ${reply.refusal.text}`)
      return true
    } catch (error) {
      if (!(error instanceof UnavailableError)) scene.fault(`a push is refused: ${String(error)}`)
      ledger.repeat(shipment)
      await scene.sleep(20 + random.below(100))
    }
  }
  return false
}

/** Protocol 2 where start times travel. */
export function bodyOf(
  { sends }: Shipment,
  exemplar: string,
  hasKinds: boolean,
): { protocol: 1 | 2; body: Uint8Array } {
  const bySeries = new Map<string, Send[]>()
  for (const send of sends) bySeries.set(send.series, [...(bySeries.get(send.series) ?? []), send])
  const series = [...bySeries.values()].map((some, i): PlainSeries => {
    const { labels, time, value } = some[0]!
    const histograms = some.filter(({ kind }) => kind === 'histogram')
    const floats = some.filter(({ kind }) => kind !== 'histogram')
    return {
      labels,
      samples: floats.map(sampleOf),
      histograms: histograms.map((send) => ({ time: send.time, histogram: histogramOf(send) })),
      ...(i === 0 && { exemplars: [{ labels: labelsFrom({ trace_id: exemplar }), time, value }] }),
    }
  })
  if (hasKinds) return { protocol: 2, body: compress(encodeWriteV2({ series })) }
  return { protocol: 1, body: compress(encodeWriteV1({ series })) }
}

function sampleOf({ kind, time, value }: Send): NonNullable<PlainSeries['samples']>[number] {
  if (kind === 'stale') return { time, value: STALE }
  if (kind === 'nan') return { time, value: Number.NaN }
  return { time, value, ...(kind === 'started' && { startTime: time - START_BEFORE_MS }) }
}

function histogramOf({ value }: Send): Histogram {
  return {
    ...{ isFloat: false, resetHint: 'unknown', schema: 3, zeroThreshold: 0.001, zeroCount: 1, count: 6, sum: value },
    ...{ positiveSpans: [{ offset: 0, length: 2 }], positiveBuckets: [2, 3], negativeSpans: [], negativeBuckets: [] },
    customValues: [],
  }
}
