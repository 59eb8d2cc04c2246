// A place in a partition's log: where a message stands, where a part of a segment begins, up to where a deletion reaches.
//
// Sequences alone do not tell what was written first: a log that has lost its end gives them again, in the same life (decision 44). Numbers of segments
// alone do not either: who was not delivered a mark takes what stands behind it for part of the segment before, never of a later one.

export interface Place {
  /** Which life of the log: a stream that was deleted and made anew is another. */
  readonly incarnation: string
  readonly segment: number
  readonly seq: number
  /** Of a position that was read from the log: the segment with which it went on when it had last lost its end. Absent: it had not. */
  readonly since?: number
}

/** Over lives numbers of segments tell, for they go on rising (LOG-8), and so they do over a loss. Else nothing lies before what stands in an earlier
 *  segment, and sequences tell. */
export function isBefore(place: Place, other: Place): boolean {
  if (place.incarnation !== other.incarnation) return place.segment < other.segment
  if (place.segment < (other.since ?? 0)) return true
  return place.segment <= other.segment && place.seq < other.seq
}

/** Which was written first, as far as one order can say that of all places. */
export function isOlder(place: Place, other: Place): boolean {
  return place.segment === other.segment ? isBefore(place, other) : place.segment < other.segment
}

export function laterOf(place: Place, other: Place | undefined): Place {
  return other === undefined || isOlder(other, place) ? place : other
}

export function isSame(place: Place, other: Place): boolean {
  return place.incarnation === other.incarnation && place.segment === other.segment && place.seq === other.seq
}
