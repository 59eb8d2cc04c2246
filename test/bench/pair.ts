// What the samples of the replica that is not elected cost: both Prometheus of an HA pair send the same series, one after the other.
import { type IngestFigures, ingest } from './ingest.ts'
import type { Target } from './target.ts'
import type { Workload } from './workload.ts'

export interface PairFigures {
  readonly stored: IngestFigures
  readonly dropped: IngestFigures
}

/** The elected one falls silent while the other is measured: that must not be a takeover. */
export const pairArgs: readonly string[] = ['--ha-takeover=30m']

/** `elected` and `other` are equal but for the replica's label. */
export async function measurePair(
  target: Target,
  { elected, other }: { readonly elected: Workload; readonly other: Workload },
  folder: string,
): Promise<PairFigures> {
  const stored = await ingest(target, elected, 0, folder, { isHalved: true })
  const before = await droppedSamples(target)
  const dropped = await ingest(target, other, 0, folder, { isHalved: true })
  const count = (await droppedSamples(target)) - before
  if (before !== 0 || count !== other.sampleCount) {
    throw new Error(
      `dropped ${before} samples of the elected replica and ${count} of ${other.sampleCount} of the other`,
    )
  }
  return { stored, dropped }
}

async function droppedSamples(target: Target): Promise<number> {
  const text = await (await fetch(`${target.queryUrl()}/metrics`)).text()
  const lines = text.matchAll(/^carillon_ha_dropped_samples_total(?:\{[^}]*\})? (\S+)/gm)
  return Array.from(lines, ([, value]) => Number(value)).reduce((sum, value) => sum + value, 0)
}
