// The project's own files, as the house rules see them.
import fs from 'node:fs'
import path from 'node:path'

export const root = path.resolve(import.meta.dirname, '../..')

export interface Source {
  /** From the project's root, with `/`. */
  readonly file: string
  readonly text: string
  readonly lines: readonly string[]
  /** What it imports: files from the project's root, packages by name. Type imports too. */
  readonly imports: readonly string[]
}

/** Every file under `folders` whose name matches. */
export function sourcesIn(folders: readonly string[], name: RegExp): Source[] {
  return folders.flatMap((folder) => filesIn(folder).filter((file) => name.test(file))).map(readSource)
}

export function filesIn(folder: string): string[] {
  const absolute = path.join(root, folder)
  if (!fs.existsSync(absolute)) return []
  return fs
    .readdirSync(absolute, { withFileTypes: true, recursive: true })
    .filter((entry) => entry.isFile())
    .map((entry) => path.relative(root, path.join(entry.parentPath, entry.name)).replaceAll('\\', '/'))
    .filter((file) => !file.includes('node_modules/'))
    .sort()
}

export function foldersIn(folder: string): string[] {
  const entries = fs.readdirSync(path.join(root, folder), { withFileTypes: true })
  return entries.filter((entry) => entry.isDirectory()).map((entry) => entry.name)
}

export function readSource(file: string): Source {
  const text = fs.readFileSync(path.join(root, file), 'utf8')
  const found = [...text.matchAll(/(?:from|import)\s*\(?\s*['"]([^'"]+)['"]/g)].map(([, name]) => name ?? '')
  const imports = found.map((name) => (name.startsWith('.') ? path.posix.join(path.posix.dirname(file), name) : name))
  return { file, text, lines: text.split('\n'), imports }
}
