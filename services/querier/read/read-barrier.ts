// What a strong read waits for: a place in every partition's log that an owner must have applied before it answers (LOG-20).
import { UnavailableError } from '../../../shared/base/errors.ts'
import type { LogPosition } from '../../../shared/contracts/write.ts'
import type { Consistency } from '../api/params.ts'
import type { LogEnds } from './log-ends.ts'

export interface Place {
  readonly minSeq: number
  readonly incarnation: string
}

export const NO_PLACE: Place = { minSeq: 0, incarnation: '' }

/** Per partition the place to wait for; undefined where nothing has to be waited for. */
export async function placesOf(
  consistency: Consistency,
  ends: LogEnds,
  partitionCount: number,
): Promise<readonly (Place | undefined)[]> {
  switch (consistency.kind) {
    case 'eventual':
      return []
    case 'strong':
      return Promise.all(Array.from({ length: partitionCount }, (_, partition) => ends.of(partition)))
    case 'position':
      return given(consistency.position, partitionCount)
  }
}

function given(position: readonly LogPosition[], partitionCount: number): readonly (Place | undefined)[] {
  const places: (Place | undefined)[] = new Array(partitionCount).fill(undefined)
  for (const { partition, incarnation, seq } of position) {
    if (partition >= partitionCount) {
      throw new UnavailableError(
        'err-carillon-partition-unknown',
        `the log position names partition ${partition}, this querier knows of ${partitionCount}`,
      )
    }
    const before = places[partition]
    if (before === undefined || before.incarnation !== incarnation || before.minSeq < seq) {
      places[partition] = { minSeq: seq, incarnation }
    }
  }
  return places
}
