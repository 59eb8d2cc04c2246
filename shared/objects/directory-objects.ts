// Objects as files of a folder: for one machine, for a share that every actor sees, and as a second place to copy to.
//
//   <folder>/<name>@     the parts, then the trailer: JSON of name and layout, its length and CRC-32C (4 bytes each, big endian), "CLNO"
//   <folder>/.making/    what is being written
//
// Invariants
//   DIRECTORY-1  A file gets its name by a hard link, whole and flushed: never a half, and the first of two creators wins. One that takes the place of a
//       damaged one gets it by a rename.
//   DIRECTORY-2  The trailer repeats the name: a file system that takes A for a gives nobody another's bytes.
import fs from 'node:fs/promises'
import path from 'node:path'
import { assert } from '../base/assert.ts'
import type { Clock } from '../base/clock.ts'
import { CorruptError, textOf, UnavailableError } from '../base/errors.ts'
import { hex, systemRandom } from '../base/random.ts'
import { crc32c } from '../wire/crc32c.ts'
import { sha256Of } from '../wire/sha256.ts'
import { Deadline } from './deadline.ts'
import {
  damaged,
  exists,
  isDamage,
  type Layout,
  layOut,
  missing,
  parseLayout,
  readRange,
  storedSizeOf,
  verifyWhole,
} from './layout.ts'
import { checkName } from './names.ts'
import { CREATE_MS_MAX, type ObjectInfo, type ObjectStore, SWEEP_AGE_MS_MIN } from './port.ts'

const leaf = '@' // in no name, so that an object and a folder never share one
const making = '.making'
const magic = Buffer.from('CLNO')
const footBytes = 12
const trailerBytesMax = 64 * 1024 * 1024

interface Opened {
  readonly handle: fs.FileHandle
  readonly layout: Layout
  readonly info: ObjectInfo
}

/** Makes the folder if there is none. Rejects with UnavailableError `objects-unavailable` when it cannot be used. */
export async function directoryObjects(folder: string, { clock }: { clock: Clock }): Promise<ObjectStore> {
  const makingFolder = path.join(folder, making)
  await fileErrors(fs.mkdir(makingFolder, { recursive: true }))
  const fileOf = (name: string) => path.join(folder, `${name}${leaf}`)

  /** What `use` makes of an object; undefined when there is none. */
  async function withObject<T>(name: string, deadline: Deadline, use: (opened: Opened) => Promise<T>) {
    return within(deadline, async () => {
      const handle = await openIfThere(fileOf(name))
      if (handle === undefined) return undefined
      try {
        return await use(await openedObject(name, handle))
      } finally {
        await handle.close()
      }
    })
  }

  async function create(name: string, bytes: Uint8Array, deadline: Deadline, isInPlace: boolean): Promise<void> {
    const { layout, parts } = await layOut(bytes, { packs: true })
    const aside = path.join(makingFolder, hex(systemRandom.bytes(16)))
    const file = fileOf(name)
    try {
      await writeFlushed(aside, [...parts, ...trailerOf(name, layout)])
      deadline.left()
      await makeFolders(folder, path.dirname(file))
      await (isInPlace ? fs.rename(aside, file) : fs.link(aside, file)) // DIRECTORY-1
      await flushFolder(path.dirname(file))
    } catch (error) {
      if (codeOf(error) !== 'EEXIST') throw error
    } finally {
      await fs.rm(aside, { force: true })
    }
  }

  return {
    kind: 'directory',
    async create(name, bytes, call) {
      checkName(name)
      assert(call.timeoutMs <= CREATE_MS_MAX, `a create of ${call.timeoutMs} ms`)
      const deadline = new Deadline(clock, call, `create of ${name}`)
      const given = sha256Of(bytes)
      const standing = async ({ info, layout, handle }: Opened) => {
        if (layout.sha256 !== given && !call.heals) throw exists(name)
        if (call.readBack) await verifyWhole(name, layout, partReader(name, layout, handle))
        if (layout.sha256 !== given) throw exists(name)
        return info
      }
      let isDamaged = false
      const before = await withObject(name, deadline, standing).catch((error: unknown) => {
        if (!call.heals || !isDamage(error)) throw error
        isDamaged = true
        return undefined
      })
      if (before !== undefined) return before
      await within(deadline, () => create(name, bytes, deadline, isDamaged))
      const after = await withObject(name, deadline, standing)
      if (after === undefined) throw new UnavailableError('objects-unavailable', `object ${name} was deleted at once`)
      return after
    },
    async info(name, call) {
      checkName(name)
      return withObject(name, new Deadline(clock, call, `info of ${name}`), async ({ info }) => info)
    },
    async read(name, range, call) {
      checkName(name)
      const bytes = await withObject(name, new Deadline(clock, call, `read of ${name}`), ({ layout, handle }) =>
        readRange(name, layout, range, partReader(name, layout, handle)),
      )
      if (bytes === undefined) throw missing(name)
      return bytes
    },
    async list(prefix, call) {
      const deadline = new Deadline(clock, call, `list of ${prefix}`)
      const under = path.join(folder, path.dirname(`${prefix}x`))
      const entries = await within(deadline, () => filesUnder(under))
      const found: ObjectInfo[] = []
      for (const file of entries) {
        const name = path.relative(folder, file).replaceAll(path.sep, '/').slice(0, -leaf.length)
        if (!file.endsWith(leaf) || !name.startsWith(prefix)) continue
        const info = await withObject(name, deadline, async (opened) => opened.info).catch((error: unknown) =>
          damagedInfo(name, file, error),
        )
        if (info !== undefined) found.push(info)
      }
      return found
    },
    async delete(name, call) {
      checkName(name)
      const deadline = new Deadline(clock, call, `delete of ${name}`)
      await within(deadline, () => fs.rm(fileOf(name), { force: true }))
    },
    async sweep(olderThanMs, call) {
      assert(olderThanMs >= SWEEP_AGE_MS_MIN, `a sweep of ${olderThanMs} ms`)
      const deadline = new Deadline(clock, call, 'sweep')
      return within(deadline, async () => {
        let [count, bytes] = [0, 0]
        for (const entry of await fs.readdir(makingFolder)) {
          const file = path.join(makingFolder, entry)
          const { mtimeMs, size } = await fs.stat(file)
          if (mtimeMs > clock.now() - olderThanMs) continue
          await fs.rm(file, { force: true })
          count += 1
          bytes += size
        }
        return { count, bytes }
      })
    },
    async close() {},
  }
}

// ---- files ----

async function damagedInfo(name: string, file: string, error: unknown): Promise<ObjectInfo | undefined> {
  if (!(error instanceof CorruptError)) throw error
  const stat = await fs.stat(file).catch(() => undefined) // it was deleted meanwhile
  return stat && { name, size: 0, sha256: '', storedSize: stat.size, storedAtMs: stat.mtimeMs, damage: error.message }
}

function trailerOf(name: string, layout: Layout): Uint8Array[] {
  const text = Buffer.from(JSON.stringify({ name, ...layout }))
  const foot = Buffer.alloc(footBytes)
  foot.writeUInt32BE(text.length, 0)
  foot.writeUInt32BE(crc32c(text), 4)
  magic.copy(foot, 8)
  return [text, foot]
}

async function openedObject(name: string, handle: fs.FileHandle): Promise<Opened> {
  const { size: fileSize, mtimeMs } = await handle.stat()
  const foot = await readAt(name, handle, fileSize - footBytes, footBytes)
  const length = foot.readUInt32BE(0)
  const isRight = foot.subarray(8).equals(magic) && length <= Math.min(trailerBytesMax, fileSize - footBytes)
  if (!isRight) throw damaged(name, 'its file has no trailer')
  const text = await readAt(name, handle, fileSize - footBytes - length, length)
  if (crc32c(text) !== foot.readUInt32BE(4)) throw damaged(name, 'its trailer breaks its checksum')
  const trailer = JSON.parse(text.toString()) as { name?: unknown }
  if (trailer.name !== name) throw damaged(name, `its file holds ${trailer.name}`) // DIRECTORY-2
  const layout = parseLayout(name, trailer)
  const { size, sha256 } = layout
  return { handle, layout, info: { name, size, sha256, storedSize: storedSizeOf(layout), storedAtMs: mtimeMs } }
}

function partReader(name: string, layout: Layout, handle: fs.FileHandle): (index: number) => Promise<Uint8Array> {
  const starts: number[] = []
  let at = 0
  for (const size of layout.sizes) {
    starts.push(at)
    at += size
  }
  return (index) => readAt(name, handle, starts[index] as number, layout.sizes[index] as number)
}

async function readAt(name: string, handle: fs.FileHandle, position: number, length: number): Promise<Buffer> {
  if (position < 0) throw damaged(name, 'its file is too short')
  const { bytesRead, buffer } = await handle.read(Buffer.allocUnsafeSlow(length), 0, length, position)
  if (bytesRead !== length) throw damaged(name, 'its file is too short')
  return buffer
}

async function writeFlushed(file: string, pieces: readonly Uint8Array[]): Promise<void> {
  const handle = await fs.open(file, 'wx')
  try {
    for (const piece of pieces) await handle.writeFile(piece)
    await handle.sync()
  } finally {
    await handle.close()
  }
}

/** Every folder below `root` on the way, each flushed into the one above. */
async function makeFolders(root: string, folder: string): Promise<void> {
  const first = await fs.mkdir(folder, { recursive: true })
  if (first === undefined) return
  for (let at = folder; at.length > root.length; at = path.dirname(at)) await flushFolder(path.dirname(at))
}

async function flushFolder(folder: string): Promise<void> {
  if (process.platform === 'win32') return // folders cannot be opened there
  const handle = await fs.open(folder, 'r')
  try {
    await handle.sync()
  } finally {
    await handle.close()
  }
}

async function filesUnder(folder: string): Promise<string[]> {
  try {
    const entries = await fs.readdir(folder, { withFileTypes: true, recursive: true })
    return entries.filter((entry) => entry.isFile()).map((entry) => path.join(entry.parentPath, entry.name))
  } catch (error) {
    if (codeOf(error) === 'ENOENT') return []
    throw error
  }
}

async function openIfThere(file: string): Promise<fs.FileHandle | undefined> {
  try {
    return await fs.open(file, 'r')
  } catch (error) {
    if (codeOf(error) === 'ENOENT' || codeOf(error) === 'ENOTDIR') return undefined
    throw error
  }
}

// ---- errors ----

/** A disk that hangs is a timeout; what it was asked for may still happen. */
function within<T>(deadline: Deadline, operation: () => Promise<T>): Promise<T> {
  deadline.left()
  return deadline.within(fileErrors(operation()))
}

async function fileErrors<T>(operation: Promise<T>): Promise<T> {
  try {
    return await operation
  } catch (error) {
    const code = codeOf(error)
    if (code === undefined || error instanceof UnavailableError || error instanceof CorruptError) throw error
    if (code === 'ENOSPC' || code === 'EDQUOT')
      throw new UnavailableError('objects-full', textOf(error), { cause: error })
    if (!/^E[A-Z]+$/.test(code)) throw error
    throw new UnavailableError('objects-unavailable', textOf(error), { cause: error })
  }
}

function codeOf(error: unknown): string | undefined {
  return error instanceof Error && 'code' in error && typeof error.code === 'string' ? error.code : undefined
}
