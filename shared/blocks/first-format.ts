// Manifests of format 1, in which deletions were decided by records in the logs: what they mean now (docs/formats/manifest.md).
//
// Reading one is pure. Where deletions of it stand may have to be found out: until that was done and written nobody shows what heads hold of
// the tenant (`isUnsettled`), and the first change of the manifest does it.
import type { Clock } from '../base/clock.ts'
import { UnavailableError } from '../base/errors.ts'
import type { LogStore } from '../bus/port.ts'
import type { DeleteEntry, Flushed, Manifest } from '../contracts/blocks.ts'
import { deleteSubject } from '../contracts/deletes.ts'
import { decodeMark, logName, markSubject } from '../contracts/log.ts'
import { laterOf, type Place } from '../model/place.ts'
import type { Log } from '../telemetry/log.ts'

interface FirstEntry extends Omit<DeleteEntry, 'state' | 'positions'> {
  readonly state: 'pending' | 'active' | 'undoing' | 'undone' | 'removed'
  readonly positions: Readonly<Record<string, (Omit<Place, 'incarnation'> & Partial<Place>) | null>>
}

const READ_TIMEOUT_MS = 5_000
const NOWHERE: Place = { incarnation: '', segment: 0, seq: 0 }

export function fromFirstFormat(manifest: Manifest): Manifest {
  const entries = manifest.deletes as unknown as readonly FirstEntry[]
  const isUnsettled = entries.some(({ state }) => state === 'pending' || state === 'active')
  return { ...manifest, deletes: entries.map(entryOf), ...(isUnsettled && { isUnsettled }) }
}

function entryOf(entry: FirstEntry): DeleteEntry {
  const places = Object.entries(entry.positions).map(([partition, place]) => {
    const known = place && { incarnation: '', ...place } // of whichever life: compared by segment
    return [partition, known] as const
  })
  const positions = Object.fromEntries(places)
  if (entry.state === 'undoing') return { ...entry, state: 'undone', positions, blocks: [], endedAtMs: entry.askedAtMs }
  return { ...entry, state: entry.state === 'pending' ? 'placing' : entry.state, positions }
}

export interface SettleDeps {
  readonly logs: Pick<LogStore, 'state' | 'lastPerSubject'>
  readonly clock: Clock
  readonly log: Log
  readonly flushed: (partition: number) => Flushed | undefined
}

/** The manifest with what is known of where its deletions stand. Throws UnavailableError while a log does not tell. */
export async function settled(manifest: Manifest, deps: SettleDeps): Promise<Manifest> {
  const { isUnsettled: _, ...known } = manifest
  const deletes: DeleteEntry[] = []
  for (const entry of manifest.deletes) {
    const isOpen = entry.state === 'placing' || entry.state === 'active'
    deletes.push(isOpen ? await settledEntry(manifest.tenant, entry, deps) : entry)
  }
  const tomb: Record<string, Place> = { ...manifest.tomb }
  for (const { kind, state, positions } of deletes) {
    if (kind !== 'tenant' || state !== 'removed') continue
    for (const [partition, place] of Object.entries(positions))
      if (place !== null) tomb[partition] = laterOf(place, tomb[partition])
  }
  return { ...known, deletes, tomb }
}

async function settledEntry(tenant: string, entry: DeleteEntry, deps: SettleDeps): Promise<DeleteEntry> {
  const positions: Record<string, Place | null> = {}
  let isDoubtful = false
  for (const [key, place] of Object.entries(entry.positions)) {
    const partition = Number(key)
    positions[key] = place === null ? null : inLife(place, deps.flushed(partition))
    if (place !== null || entry.state === 'placing') continue
    const found = await positionIn(partition, entry.id, deps)
    positions[key] = found ?? NOWHERE
    if (found !== undefined) continue
    isDoubtful = true
    const text = `deletion ${entry.id} left no trace in the log of partition ${partition}: blocks of it that were written later may be hidden; take it back or clean_tombstones`
    deps.log.error({ tenant, partition, blocks: entry.blocks }, text)
  }
  const next: DeleteEntry = { ...entry, positions, ...(isDoubtful && { isDoubtful }) }
  // Its blocks may have been rewritten without a trace.
  const isOver = entry.state === 'active' && !isDoubtful && entry.undoUntilMs < deps.clock.now()
  return isOver ? { ...next, state: 'removing' } : next
}

/** What is not flushed yet stands in the life that the log has now. */
function inLife(place: Place, flushed: Flushed | undefined): Place {
  if (place.incarnation !== '' || flushed === undefined || place.segment <= flushed.segment) return place
  return { ...place, incarnation: flushed.mark.incarnation }
}

/** Where the record of a deletion stands in a log; undefined: nowhere. */
async function positionIn(partition: number, id: string, { logs }: SettleDeps): Promise<Place | undefined> {
  const log = logName(partition)
  const subjects = { mark: markSubject(partition), record: deleteSubject(partition, id) }
  const { lastSeq, incarnation } = await logs.state(log)
  const last = await logs.lastPerSubject(log, [subjects.mark, subjects.record], READ_TIMEOUT_MS)
  const unknown = new UnavailableError(
    'err-carillon-deletion-unknown',
    `log ${log} does not tell of deletion ${id} yet`,
  )
  if (last.upToSeq < lastSeq) throw unknown
  const record = last.messages.find(({ subject }) => subject === subjects.record)
  if (record === undefined) return undefined
  const before = await logs.lastPerSubject(log, [subjects.mark, subjects.record], READ_TIMEOUT_MS, record.seq)
  if (before.upToSeq < record.seq) throw unknown
  const mark = before.messages.find(({ subject }) => subject === subjects.mark)
  return { incarnation, segment: mark === undefined ? 0 : decodeMark(mark.payload).number, seq: record.seq }
}
