// A place in a partition's log: where a message stands, where a part of a segment begins, up to where a deletion reaches.

export interface Place {
  /** Which life of the log: a stream that was deleted and made anew is another. */
  readonly incarnation: string
  readonly segment: number
  readonly seq: number
}

/** Within one life sequences tell, whatever marks were lost; over lives numbers of segments do, for they go on rising (L8). */
export function isBefore(place: Place, other: Place): boolean {
  return place.incarnation === other.incarnation ? place.seq < other.seq : place.segment < other.segment
}

/** The one that the other lies before. */
export function laterOf(place: Place, other: Place | undefined): Place {
  return other === undefined || isBefore(other, place) ? place : other
}

export function isSame(place: Place, other: Place): boolean {
  return place.incarnation === other.incarnation && place.segment === other.segment && place.seq === other.seq
}
