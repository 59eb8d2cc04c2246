// What an owner gives to another that misses part of a segment: the segment's samples, and the dictionaries that batches to come lean on.
import type { FillFrame, OwnerStamp, SelectFrame } from '../../../shared/contracts/read.ts'
import { ALL_TIME } from '../../../shared/model/interval.ts'
import type { Head } from '../../../shared/tsdb/head/head.ts'
import type { StringTable } from '../../../shared/tsdb/head/string-table.ts'
import type { Owner } from '../log/owner.ts'
import { describe } from '../state/damage.ts'
import type { SessionDictionary } from '../state/session-dictionary.ts'
import { allRefs, stampOf, Walk } from './answers.ts'
import { FrameBuilder } from './frames.ts'

const STRINGS_PER_FRAME_MAX = 4096

export async function* fillFrames(owner: Owner, strings: StringTable, segment: number): AsyncIterable<FillFrame> {
  const missing = owner.damages.filter((damage) => damage.segment === segment && damage.state !== 'filled')
  const { state, partition } = owner // kept: the owner may stop, or begin again, while the answer is under way
  const { droppedUpTo } = state
  const position = { appliedSeq: owner.appliedMax, firstSegment: droppedUpTo + 1 } // a segment without samples is held, too
  const stamp: OwnerStamp = { ...stampOf(owner), ...position, warnings: missing.map(describe) }
  const ends = [state.use.reading(), strings.reading()]
  try {
    const cuts = state.cutsTold()
    yield {
      stamp,
      held: state.segments(),
      kept: owner.lostEnd.keptUpTo,
      ...(cuts && { cuts }),
      tenant: '',
      frame: NOTHING,
    }
    for (const [tenant, head] of state.heads) {
      yield* sampleFrames({ state, partition }, { tenant, head, strings }, segment)
    }
    for (const [session, dictionary] of state.sessionsHeld()) {
      yield* stringFrames(session, dictionary)
      for (const [tenant, head] of state.heads) yield* idFrames(session, dictionary, { tenant, head, strings })
    }
  } finally {
    for (const end of ends) end()
  }
}

interface TenantHead {
  readonly tenant: string
  readonly head: Head
  readonly strings: StringTable
}

function* sampleFrames(
  holder: Pick<Owner, 'state' | 'partition'>,
  { tenant, head, strings }: TenantHead,
  segment: number,
): Iterable<FillFrame> {
  const walk = new Walk(holder, strings, head, allRefs(head))
  const builder = new FrameBuilder(head, strings, 'all')
  try {
    for (let ref = walk.next(); ref >= 0; ref = walk.next()) {
      builder.add(ref, ALL_TIME, segment)
      if (!builder.isFull) continue
      yield { tenant, frame: builder.take() }
      walk.checkHeld(segment - 1)
    }
    yield { tenant, frame: builder.take() }
  } finally {
    walk.close()
  }
}

function* stringFrames(session: string, dictionary: SessionDictionary): Iterable<FillFrame> {
  const { epoch, strings } = dictionary
  const batches = dictionary.batches()
  const numbers = Object.keys(strings).map(Number) // a session that was itself filled may have holes
  for (let start = 0; start < numbers.length; start += STRINGS_PER_FRAME_MAX) {
    const part = numbers.slice(start, start + STRINGS_PER_FRAME_MAX)
    const texts = part.map((number) => strings[number]!)
    const given = { session, epoch, ids: new Uint32Array(0), stringNumbers: Uint32Array.from(part), texts, batches }
    yield { tenant: '', frame: NOTHING, session: given }
  }
}

/** The series of one tenant to which the session gave ids, with these. */
function* idFrames(session: string, dictionary: SessionDictionary, of: TenantHead): Iterable<FillFrame> {
  const { epoch, heads } = dictionary
  const builder = new FrameBuilder(of.head, of.strings, 'labels')
  let ids: number[] = []
  const take = (): FillFrame => {
    const given = {
      session,
      epoch,
      ids: Uint32Array.from(ids),
      stringNumbers: new Uint32Array(0),
      texts: [],
      batches: new Float64Array(0),
    }
    ids = []
    return { tenant: of.tenant, frame: builder.take(), session: given }
  }
  for (let id = 0; id < heads.length; id++) {
    if (heads[id] !== of.head) continue
    builder.add(dictionary.refs[id]!, ALL_TIME)
    ids.push(id)
    if (builder.isFull) yield take()
  }
  if (ids.length > 0) yield take()
}

const NOTHING: SelectFrame = {
  strings: new Uint8Array(0),
  stringEnds: new Uint32Array(0),
  labelCounts: new Uint16Array(0),
  labels: new Uint32Array(0),
}
