// The port to the files of one block: whoever stores blocks implements it.
//
// Names are as in Prometheus' block directory: `meta.json`, `index`, `chunks/000001`, …, `tombstones`. A block never changes.
import { CorruptError } from '../../base/errors.ts'

export interface BlockFiles {
  /** Bytes of a file. CorruptError when it is not there. */
  size(file: string, signal?: AbortSignal): Promise<number>
  /** Bytes [start, end), all of them: CorruptError when the file is missing or shorter. The caller does not change them. */
  read(file: string, start: number, end: number, signal?: AbortSignal): Promise<Uint8Array>
  /** Reads that cross no multiple of this are the cheapest. Absent: all are alike. */
  readonly pieceBytes?: number
  /** The file will be read soon. */
  ahead?(file: string): void
}

export const INDEX_FILE = 'index'
export const META_FILE = 'meta.json'
export const TOMBSTONES_FILE = 'tombstones'
export const CHUNKS_FOLDER = 'chunks/'

/** The chunk file of a reference's upper half, which counts from 0 where names count from 1. */
export function chunkFileName(fileIndex: number): string {
  return `${CHUNKS_FOLDER}${String(fileIndex + 1).padStart(6, '0')}`
}

/** Damage of a block, with the file and the byte where it was noticed. */
export class BlockCorruptError extends CorruptError {
  readonly file: string
  readonly offset: number
  /** What is wrong there. */
  readonly text: string

  constructor(file: string, offset: number, text: string, options?: ErrorOptions) {
    super('err-carillon-corrupt-block', `${file} at byte ${offset}: ${text}`, options)
    this.file = file
    this.offset = offset
    this.text = text
  }
}

export function corruptAt(file: string, offset: number, text: string): BlockCorruptError {
  return new BlockCorruptError(file, offset, text)
}

/** Files that are held in memory: a block just written, or an upload before it is kept. */
export function memoryFiles(files: ReadonlyMap<string, Uint8Array>): BlockFiles {
  const find = (file: string): Uint8Array => {
    const bytes = files.get(file)
    if (bytes === undefined) throw corruptAt(file, 0, 'there is no such file')
    return bytes
  }
  return {
    size: async (file) => find(file).length,
    read: async (file, start, end) => {
      const bytes = find(file)
      if (start < 0 || end > bytes.length || start > end) throw corruptAt(file, start, `ends before byte ${end}`)
      return bytes.subarray(start, end)
    },
  }
}

/** Reads a range and makes sure that all of it came. */
export async function readExactly(
  files: BlockFiles,
  file: string,
  start: number,
  end: number,
  signal?: AbortSignal,
): Promise<Uint8Array> {
  const bytes = await files.read(file, start, end, signal)
  if (bytes.length !== end - start) throw corruptAt(file, start, `gave ${bytes.length} bytes of ${end - start}`)
  return bytes
}
