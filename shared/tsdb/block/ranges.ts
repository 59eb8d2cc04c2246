// Reads many places of one file in few pieces: what is close together comes in one read, a few reads at once.
import { type BlockFiles, readExactly } from './files.ts'

/** Bytes between two places that are read along rather than asked for again. */
const GAP_BYTES_MAX = 32 * 1024
/** A piece is closed when it has this many bytes, unless one place has more. */
const PIECE_BYTES_MAX = 1024 * 1024
const READS_AT_ONCE_MAX = 8

/** Bytes of a file from `base` on. */
export interface Piece {
  readonly base: number
  readonly bytes: Uint8Array
}

/** Reads [starts[i], ends[i]) for every i and returns per i the piece that holds it, which may go on behind it. Starts rise. */
export async function readPlaces(
  files: BlockFiles,
  file: string,
  starts: readonly number[],
  ends: readonly number[],
  signal?: AbortSignal,
): Promise<Piece[]> {
  const pieces: Piece[] = new Array(starts.length)
  const { pieceBytes = Number.POSITIVE_INFINITY } = files
  const jobs: { from: number; to: number; end: number; where: number }[] = []
  for (let i = 0; i < starts.length; i++) {
    const job = jobs.at(-1)
    const where = whereIn(pieceBytes, starts[i]!, ends[i]!)
    const isClose = job !== undefined && starts[i]! >= starts[job.from]! && starts[i]! - job.end <= GAP_BYTES_MAX
    if (isClose && where === job.where && Math.max(job.end, ends[i]!) - starts[job.from]! <= PIECE_BYTES_MAX) {
      job.to = i + 1
      job.end = Math.max(job.end, ends[i]!)
    } else {
      jobs.push({ from: i, to: i + 1, end: ends[i]!, where })
    }
  }
  let next = 0
  const work = async (): Promise<void> => {
    while (next < jobs.length) {
      const { from, to, end } = jobs[next++]!
      const base = starts[from]!
      const bytes = await readExactly(files, file, base, end, signal)
      pieces.fill({ base, bytes }, from, to)
    }
  }
  await Promise.all(Array.from({ length: Math.min(READS_AT_ONCE_MAX, jobs.length) }, work))
  return pieces
}

/** Equal for places within the same piece, and for those that reach from it into the next ones. */
function whereIn(pieceBytes: number, start: number, end: number): number {
  const piece = Math.floor(start / pieceBytes)
  return end > (piece + 1) * pieceBytes ? 2 * piece + 1 : 2 * piece
}
