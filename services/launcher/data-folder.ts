// The data folder: which format it is in, and which launcher works on it.
//
//   carillon.json   { "format": 1 }: written once, read before anything else is touched
//   lock.json       who runs on this folder; gone after a clean stop, stale after a kill
//   nats/           everything of the nats-server (nats-server.ts)
//
// Invariants
//   FOLDER-1  A folder in a newer format is refused before anything in it is changed.
//   FOLDER-2  At most one launcher works on a folder: the lock names a process and its start time, and only a dead holder's is taken.
import fs from 'node:fs'
import path from 'node:path'
import { z } from 'zod'
import { textOf } from '../../shared/base/errors.ts'
import { identityOf, isRunning } from './process-identity.ts'
import { SetupError } from './setup-error.ts'

export const dataFormat = 1

const formatFile = z.object({ format: z.number().int().positive() })
const lockFile = z.object({ pid: z.number(), started: z.string(), since: z.string(), address: z.string() })
type LockRecord = z.infer<typeof lockFile>

export interface DataFolder {
  readonly path: string
  /** A launcher before us ended without a clean stop. */
  readonly wasKilled: boolean
  /** Tells the next one who asks where we are. */
  setAddress(address: string): void
  release(): void
}

/** Opens or makes the folder and takes its lock. Rejects with SetupError (exit code 1). */
export function openDataFolder(folder: string): DataFolder {
  const absolute = path.resolve(folder)
  checkFormat(absolute) // FOLDER-1
  try {
    fs.mkdirSync(absolute, { recursive: true })
  } catch (error) {
    throw new SetupError(1, `cannot make the data folder ${absolute}: ${textOf(error)}`, { cause: error })
  }
  const real = fs.realpathSync(absolute)
  const lock = path.join(real, 'lock.json')
  const own = { ...identityOf(process.pid), since: new Date().toISOString(), address: '' } as LockRecord
  const wasKilled = takeLock(lock, own, real)
  const file = path.join(real, 'carillon.json')
  if (!fs.existsSync(file)) replaceFile(file, `${JSON.stringify({ format: dataFormat })}\n`)
  return {
    path: real,
    wasKilled,
    setAddress: (address) => replaceFile(lock, JSON.stringify({ ...own, address })),
    release: () => fs.rmSync(lock, { force: true }),
  }
}

/** Where the first gateway of the launcher that works on the folder is; '' where none runs, or it has none. */
export function runningAddress(folder: string): string {
  const holder = readRecord(path.join(folder, 'lock.json'), lockFile)
  return holder !== undefined && isRunning(holder) ? holder.address : ''
}

/** Written aside and renamed, so that nobody reads a half. */
export function replaceFile(file: string, text: string, mode = 0o644): void {
  const aside = `${file}.${process.pid}`
  fs.writeFileSync(aside, text, { mode })
  fs.renameSync(aside, file)
}

/** What a small JSON file holds; undefined when it is missing or torn. */
export function readRecord<T>(file: string, shape: z.ZodType<T>): T | undefined {
  if (!fs.existsSync(file)) return undefined
  try {
    return shape.safeParse(JSON.parse(fs.readFileSync(file, 'utf8'))).data
  } catch (error) {
    if (error instanceof SyntaxError) return undefined
    throw error
  }
}

function checkFormat(folder: string): void {
  const file = path.join(folder, 'carillon.json')
  if (!fs.existsSync(file)) return
  const record = readRecord(file, formatFile)
  if (record === undefined)
    throw new SetupError(1, `${file} does not say a format; is ${folder} a data folder of Carillon?`)
  if (record.format > dataFormat) {
    throw new SetupError(
      1,
      `the data folder ${folder} has format ${record.format}, written by a newer Carillon; this one knows ${dataFormat}. Nothing was changed: start the newer one, or choose another folder with --data`,
    )
  }
}

/** Whether a dead holder's lock was taken over. */
function takeLock(lock: string, own: LockRecord, folder: string): boolean {
  const aside = `${lock}.${process.pid}`
  fs.writeFileSync(aside, JSON.stringify(own))
  try {
    for (let isStale = false; ; isStale = true) {
      if (linked(aside, lock)) return isStale
      const holder = readRecord(lock, lockFile)
      if (holder !== undefined && isRunning(holder)) throw new SetupError(1, heldText(folder, holder))
      fs.rmSync(lock, { force: true })
    }
  } finally {
    fs.rmSync(aside, { force: true })
  }
}

/** A hard link appears whole or not at all, and only for one of several. */
function linked(from: string, to: string): boolean {
  try {
    fs.linkSync(from, to)
    return true
  } catch (error) {
    if (error instanceof Error && 'code' in error && error.code === 'EEXIST') return false
    throw error
  }
}

function heldText(folder: string, { pid, since, address }: LockRecord): string {
  const where = address === '' ? 'still starting' : `at ${address}`
  return `the data folder ${folder} is in use by process ${pid} (${where}, since ${since}). Stop that one, or choose another folder with --data`
}
