// Metadata of metrics lives in the log only. Before a part of the log is purged, the leader states again what stands nowhere later: batches
// of a session of its own, which hold metadata and nothing else.

import type { Random } from '../../shared/base/random.ts'
import { hex } from '../../shared/base/random.ts'
import type { Blocks } from '../../shared/blocks/port.ts'
import type { Bus } from '../../shared/bus/port.ts'
import { batchSubject, logName } from '../../shared/contracts/log.ts'
import type { MetricMetadata } from '../../shared/contracts/read.ts'
import { encodeLogBatch, SESSION_BYTES } from '../../shared/wire/log-batch.ts'
import { Writer } from '../../shared/wire/varint.ts'
import type { Owner } from './owner.ts'

const BATCH_BYTES_TARGET = 64 * 1024
const APPEND_TIMEOUT_MS = 5_000
const NO_BYTES = new Uint8Array(0)
const NO_VALUES = new Float64Array(0)

interface MetadataDeps {
  readonly bus: Bus
  readonly blocks: Pick<Blocks, 'flushed'>
  readonly random: Random
}

/** Appends what was last stated before the newest flushed segment. True when there was any: it counts once it is applied. */
export async function restateMetadata(owner: Owner, { bus, blocks, random }: MetadataDeps): Promise<boolean> {
  const { partition, state } = owner
  const { mark } = state
  if (mark === undefined) return false
  const stale = staleRows(owner, blocks.flushed(partition))
  if (stale.length === 0) return false
  const session = random.bytes(SESSION_BYTES)
  let counter = 0
  for (let at = 0; at < stale.length; ) {
    const metadata = new Writer(4096)
    for (; at < stale.length && metadata.length < BATCH_BYTES_TARGET; at++) {
      const { tenant, row } = stale[at]!
      for (const text of [tenant, row.metric, row.type, row.help, row.unit]) metadata.text(text)
    }
    counter++
    const batch = encodeLogBatch({
      ...{ session, epoch: mark.number, nonce: mark.nonce, counter, lastCounter: 0, lastSeq: 0 },
      ...{ strings: NO_BYTES, definitions: NO_BYTES, sampleCount: 0, ids: NO_BYTES, times: NO_BYTES },
      ...{ values: NO_VALUES, histograms: NO_BYTES, exemplars: NO_BYTES, metadata: metadata.finish() },
    })
    const messageId = `${hex(session)}-${counter}`
    await bus.logs.append(logName(partition), batchSubject(partition), batch, {
      timeoutMs: APPEND_TIMEOUT_MS,
      messageId,
    })
  }
  return true
}

function staleRows({ state }: Owner, flushed: number): { tenant: string; row: MetricMetadata }[] {
  const stale: { tenant: string; row: MetricMetadata }[] = []
  for (const [tenant, segments] of state.metadataSegments) {
    const rows = state.metadata.get(tenant)
    for (const [metric, segment] of segments) {
      const row = rows?.get(metric)
      if (segment < flushed && row !== undefined) stale.push({ tenant, row })
    }
  }
  return stale
}
