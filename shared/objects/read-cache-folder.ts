// The read cache's folder: one file per piece, found again after a restart. It may vanish or rot: what does not match its checksum is not there.
//
//   <path>/<64 hex digits of the key>    CRC-32C of key and piece (4 bytes, big endian), then the piece
import fs from 'node:fs/promises'
import path from 'node:path'
import { LRUCache } from 'lru-cache'
import { textOf } from '../base/errors.ts'
import { crc32c } from '../wire/crc32c.ts'
import { sha256Of } from '../wire/sha256.ts'

/** Files written at once; a piece that comes above is not kept. */
const writesMax = 16
const crcBytes = 4
const isKey = /^[0-9a-f]{64}$/

export class FolderCache {
  readonly #path: string
  readonly #files: LRUCache<string, number>
  readonly #onFailure: (error: Error) => void
  readonly #opened: Promise<void>
  readonly #pending = new Set<Promise<void>>()

  constructor(options: { path: string; bytesMax: number }, onFailure: (error: Error) => void) {
    this.#path = options.path
    this.#onFailure = onFailure
    this.#files = new LRUCache<string, number>({
      maxSize: Math.max(1, options.bytesMax),
      sizeCalculation: (size) => Math.max(1, size),
      dispose: (_size, file, reason) => {
        if (reason === 'evict' || reason === 'delete') this.#later(this.#remove(file))
      },
    })
    this.#opened = this.#open()
  }

  /** Undefined when it is not there, or not what was put. */
  async get(key: string): Promise<Uint8Array | undefined> {
    await this.#opened
    const file = sha256Of(key)
    if (!this.#files.has(file)) return undefined
    let bytes: Buffer
    try {
      bytes = await fs.readFile(path.join(this.#path, file))
    } catch (error) {
      if (this.#files.has(file)) this.#drop(file, new Error(`cached piece ${file}: ${textOf(error)}`, { cause: error }))
      return undefined
    }
    const piece = new Uint8Array(bytes.subarray(crcBytes)) // a copy: small files lie in a shared pool
    if (bytes.length < crcBytes || bytes.readUInt32BE(0) !== checksum(file, piece)) {
      this.#drop(file, new Error(`cached piece ${file} is damaged`))
      return undefined
    }
    this.#files.get(file)
    return piece
  }

  /** In the background; the piece must not change. */
  put(key: string, piece: Uint8Array): void {
    if (this.#pending.size >= writesMax) return
    this.#later(this.#write(sha256Of(key), piece))
  }

  /** Waits for what goes on in the background. */
  async close(): Promise<void> {
    await this.#opened
    while (this.#pending.size > 0) await Promise.all(this.#pending)
  }

  async #write(file: string, piece: Uint8Array): Promise<void> {
    await this.#opened
    if (this.#files.has(file)) return
    const crc = Buffer.alloc(crcBytes)
    crc.writeUInt32BE(checksum(file, piece))
    const aside = path.join(this.#path, `${file}.part`)
    await fs.writeFile(aside, Buffer.concat([crc, piece]))
    await fs.rename(aside, path.join(this.#path, file))
    this.#files.set(file, piece.length + crcBytes)
    if (!this.#files.has(file)) await this.#remove(file) // larger than all there is room for
  }

  /** Oldest first, so that these go first; what is no piece goes at once. */
  async #open(): Promise<void> {
    try {
      await fs.mkdir(this.#path, { recursive: true })
      const found: { file: string; size: number; mtimeMs: number }[] = []
      for (const file of await fs.readdir(this.#path)) {
        if (!isKey.test(file)) {
          if (file.endsWith('.part')) await this.#remove(file)
          continue
        }
        const { size, mtimeMs } = await fs.stat(path.join(this.#path, file))
        found.push({ file, size, mtimeMs })
      }
      found.sort((a, b) => a.mtimeMs - b.mtimeMs)
      for (const { file, size } of found) this.#files.set(file, size)
    } catch (error) {
      this.#onFailure(new Error(`the cache folder ${this.#path}: ${textOf(error)}`, { cause: error }))
    }
  }

  #drop(file: string, why: Error): void {
    this.#onFailure(why)
    this.#files.delete(file)
  }

  async #remove(file: string): Promise<void> {
    await fs.rm(path.join(this.#path, file), { force: true })
  }

  #later(work: Promise<void>): void {
    const done = work
      .catch((error: unknown) => this.#onFailure(error instanceof Error ? error : new Error(textOf(error))))
      .finally(() => this.#pending.delete(done))
    this.#pending.add(done)
  }
}

const checksum = (file: string, piece: Uint8Array): number => {
  return crc32c(piece, 0, piece.length, crc32c(Buffer.from(file)))
}
