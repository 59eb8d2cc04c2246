// Manifests of format 1, in which deletions were decided by records in the logs: what they mean now (docs/formats/manifest.md).
//
// Reading one is pure. Where deletions of it stand may have to be found out: until that was done and written nobody shows what heads hold of
// the tenant (`isUnsettled`), and the first change of the manifest does it.
import type { Clock } from '../base/clock.ts'
import { RefusedError, UnavailableError } from '../base/errors.ts'
import type { LogMessage, LogStore } from '../bus/port.ts'
import type { DeleteEntry, Flushed, Manifest } from '../contracts/blocks.ts'
import { deleteSubject } from '../contracts/deletes.ts'
import { batchSubject, decodeMark, logName, markSubject } from '../contracts/log.ts'
import { laterOf, type Place } from '../model/place.ts'
import type { Log } from '../telemetry/log.ts'

interface FirstEntry extends Omit<DeleteEntry, 'state' | 'positions'> {
  readonly state: 'pending' | 'active' | 'undoing' | 'undone' | 'removed'
  readonly positions: Readonly<Record<string, (Omit<Place, 'incarnation'> & Partial<Place>) | null>>
}

/** Where deletions of a manifest stand is not known: nobody changes it. */
export const UNSETTLED = 'manifest-unsettled'
const READ_TIMEOUT_MS = 5_000
/** Marks in a row that cannot be read; beyond them the deletion is doubted. */
const MARKS_READ_MAX = 8
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

/** The manifest with what is known of where its deletions stand. UnavailableError `manifest-unsettled` while a log does not tell. */
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
    const found = await told(tenant, partition, entry.id, deps)
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

/** A log that does not tell is this tenant's trouble alone: by this code it is set aside, if it takes long. */
async function told(tenant: string, partition: number, id: string, deps: SettleDeps): Promise<Place | undefined> {
  try {
    return await positionIn(partition, id, deps)
  } catch (cause) {
    if (!(cause instanceof UnavailableError)) throw cause
    const text = `tenant "${tenant}": ${logName(partition)} does not tell where deletion ${id} of an older version stands: ${cause.message}`
    throw new UnavailableError(UNSETTLED, text, { cause })
  }
}

/** What is not flushed yet stands in the life that the log has now. */
function inLife(place: Place, flushed: Flushed | undefined): Place {
  if (place.incarnation !== '' || flushed === undefined || place.segment <= flushed.segment) return place
  return { ...place, incarnation: flushed.mark.incarnation }
}

/** Where the record of a deletion stands in a log; undefined: nowhere. */
async function positionIn(partition: number, id: string, { logs }: SettleDeps): Promise<Place | undefined> {
  const log = logName(partition)
  const record = deleteSubject(partition, id)
  const subjects = [markSubject(partition), batchSubject(partition), record]
  const newest = async (upTo?: number) => {
    const { messages, upToSeq } = await logs.lastPerSubject(log, subjects, READ_TIMEOUT_MS, upTo)
    if (upToSeq < (upTo ?? lastSeq)) throw new UnavailableError('log-unavailable', `${log} does not tell as much yet`)
    return (subject: string) => messages.find((each) => each.subject === subject)
  }
  const { firstSeq, lastSeq, incarnation } = await logs.state(log)
  const found = (await newest())(record)
  if (found === undefined) return undefined
  let before = found.seq
  for (let i = 0; i < MARKS_READ_MAX && before >= firstSeq; i++) {
    const mark = (await newest(before))(subjects[0]!)
    if (mark === undefined) break
    const number = numberOf(mark)
    if (number !== undefined) return { incarnation, segment: number, seq: found.seq }
    before = mark.seq - 1 // to owners it is damage, and no segment begins there
  }
  return before === found.seq ? { incarnation, segment: 0, seq: found.seq } : undefined
}

function numberOf({ payload }: LogMessage): number | undefined {
  try {
    return decodeMark(payload).number
  } catch (error) {
    if (error instanceof RefusedError) return undefined
    throw error
  }
}
