// Walks a long stretch of a file from start to end through a window, with a checksum over all of it.
import { crc32c } from '../../wire/crc32c.ts'
import { ByteReader, u32At } from './bytes.ts'
import { type BlockFiles, corruptAt, readExactly } from './files.ts'
import { CRC_BYTES } from './layout.ts'

const WINDOW_BYTES = 256 * 1024

export class SectionStream {
  private readonly files: BlockFiles
  private readonly file: string
  private readonly signal: AbortSignal | undefined
  private readonly end: number
  private nextRead: number
  private window = new Uint8Array(0) as Uint8Array
  private crc = 0
  /** Reads what is in the window; replaced by `fill`. */
  reader: ByteReader

  /** Bytes [start, end) of a file. */
  constructor(files: BlockFiles, file: string, start: number, end: number, signal?: AbortSignal) {
    this.files = files
    this.file = file
    this.signal = signal
    this.end = end
    this.nextRead = start
    this.reader = new ByteReader(this.window, 0, 0, file, start)
  }

  /** Where in the file the next byte stands. */
  get offset(): number {
    return this.reader.offset
  }

  get isAtEnd(): boolean {
    return this.reader.at === this.reader.end && this.nextRead === this.end
  }

  /** Whether `count` bytes, or all that are left, can be read without `fill`. */
  has(count: number): boolean {
    return this.reader.end - this.reader.at >= count || this.nextRead === this.end
  }

  /** Makes `has(count)` true. */
  async fill(count: number): Promise<void> {
    if (this.has(count)) return
    const { reader } = this
    const left = this.window.subarray(reader.at, reader.end)
    const base = reader.offset
    const readEnd = Math.min(this.end, this.windowEnd(this.nextRead + count - left.length))
    const more = await readExactly(this.files, this.file, this.nextRead, readEnd, this.signal)
    this.crc = crc32c(more, 0, more.length, this.crc)
    this.nextRead = readEnd
    if (left.length === 0) {
      this.window = more
    } else {
      this.window = new Uint8Array(left.length + more.length)
      this.window.set(left)
      this.window.set(more, left.length)
    }
    this.reader = new ByteReader(this.window, 0, this.window.length, this.file, base)
  }

  /** Where the next window ends that reaches to `position`. */
  private windowEnd(position: number): number {
    const { pieceBytes } = this.files
    if (pieceBytes === undefined) return Math.max(this.nextRead + WINDOW_BYTES, position)
    return Math.ceil(position / pieceBytes) * pieceBytes
  }

  /** Reads what is left and compares the checksum of all with the four bytes behind the end. */
  async checkCrc(): Promise<void> {
    while (!this.isAtEnd) {
      this.reader.at = this.reader.end
      await this.fill(1)
      this.reader.at = this.reader.end
    }
    const wanted = u32At(await readExactly(this.files, this.file, this.end, this.end + CRC_BYTES, this.signal), 0)
    if (this.crc !== wanted) throw corruptAt(this.file, this.end, 'checksum of the section before does not match')
  }
}
