// Blocks as folders of a Prometheus data directory.
import fs from 'node:fs/promises'
import path from 'node:path'
import { textOf } from '../../shared/base/errors.ts'
import { ULID_SHAPE } from '../../shared/model/ulid.ts'
import { type BlockFiles, corruptAt, INDEX_FILE, META_FILE, TOMBSTONES_FILE } from '../../shared/tsdb/block/files.ts'
import { SetupError } from '../launcher/setup-error.ts'

/** The blocks of a data directory, oldest first, or the one block that the folder itself is. */
export async function blockFolders(folder: string): Promise<readonly string[]> {
  const names = await fs.readdir(folder).catch((cause: unknown) => {
    throw new SetupError(2, `${folder} is no folder that can be read`, { cause })
  })
  if (names.includes(META_FILE)) return [folder]
  return names
    .filter((name) => ULID_SHAPE.test(name))
    .sort()
    .map((name) => path.join(folder, name))
}

/** The files of one block but meta.json, with their sizes. */
export async function filesOf(folder: string): Promise<readonly { name: string; size: number }[]> {
  const chunks = await fs.readdir(path.join(folder, 'chunks')).catch(() => []) // the gateway says what is missing
  const tombstones = (await hasFile(path.join(folder, TOMBSTONES_FILE))) ? [TOMBSTONES_FILE] : []
  const names = [...chunks.sort().map((name) => `chunks/${name}`), INDEX_FILE, ...tombstones]
  return await Promise.all(names.map(async (name) => ({ name, size: await sizeOf(folder, name) })))
}

export async function hasFile(file: string): Promise<boolean> {
  return await fs.stat(file).then(
    () => true,
    () => false,
  )
}

async function sizeOf(folder: string, name: string): Promise<number> {
  try {
    return (await fs.stat(path.join(folder, name))).size
  } catch (cause) {
    throw new SetupError(1, `${folder} is no whole block: ${name} cannot be read`, { cause })
  }
}

function unreadable(file: string): (error: unknown) => never {
  return (error) => {
    const isMissing = error instanceof Error && 'code' in error && error.code === 'ENOENT'
    throw corruptAt(file, 0, isMissing ? 'there is no such file' : textOf(error))
  }
}

export function folderFiles(folder: string): BlockFiles {
  return {
    async size(file) {
      const { size } = await fs.stat(path.join(folder, file)).catch(unreadable(file))
      return size
    },
    async read(file, start, end) {
      const handle = await fs.open(path.join(folder, file)).catch(unreadable(file))
      try {
        const bytes = new Uint8Array(end - start)
        const { bytesRead } = await handle.read(bytes, 0, bytes.length, start)
        if (bytesRead < bytes.length) throw corruptAt(file, start + bytesRead, `ends before byte ${end}`)
        return bytes
      } finally {
        await handle.close()
      }
    },
  }
}
