// Finds a nats-server that is new enough, or builds the pinned one. Never downloads a binary.
//
// In this order: the path that was given, `nats-server` on PATH, the project's cache, a build by a Go toolchain into the cache.
import { spawn, spawnSync } from 'node:child_process'
import fs from 'node:fs'
import path from 'node:path'
import { SetupError } from './setup-error.ts'

export const natsVersionPinned = 'v2.15.2'
/** Atomic publishes, strict requests and exact direct gets need it. */
const natsVersionMin = [2, 12] as const
const projectRoot = path.resolve(import.meta.dirname, '../..')

export interface NatsBinary {
  readonly path: string
  readonly version: string
}

export interface FindOptions {
  /** From --nats-server or CARILLON_NATS_SERVER: used or refused, never passed over. */
  readonly given?: string | undefined
  readonly cacheDir?: string
  readonly searchPath?: string
  readonly say: (line: string) => void
}

/** Rejects with SetupError (exit code 2), its text names every way to get one. */
export async function findNatsServer(options: FindOptions): Promise<NatsBinary> {
  const { given, say } = options
  const cacheDir = options.cacheDir ?? path.join(projectRoot, '.cache')
  const searchPath = options.searchPath ?? process.env['PATH'] ?? ''
  if (given !== undefined && given !== '') return checkGiven(given)
  const passedOver: string[] = []
  for (const candidate of onPath('nats-server', searchPath)) {
    const version = versionOf(candidate)
    if (version !== undefined && isNewEnough(version)) return { path: candidate, version }
    passedOver.push(`${candidate} is ${version ?? 'not a nats-server that runs'}`)
  }
  const cached = path.join(cacheDir, `nats-server-${natsVersionPinned}`, executable('nats-server'))
  const cachedVersion = fs.existsSync(cached) ? versionOf(cached) : undefined
  if (cachedVersion !== undefined) return { path: cached, version: cachedVersion }
  const go = onPath('go', searchPath)[0]
  if (go === undefined) throw new SetupError(2, missingText(passedOver))
  await build(go, cached, passedOver, say)
  return { path: cached, version: versionOf(cached) ?? natsVersionPinned.slice(1) }
}

function checkGiven(given: string): NatsBinary {
  const version = versionOf(given)
  if (version === undefined) throw new SetupError(2, `the nats-server that was given, ${given}, does not run`)
  if (!isNewEnough(version)) {
    throw new SetupError(
      2,
      `the nats-server that was given, ${given}, is ${version}; ${natsVersionMin.join('.')} or newer is needed`,
    )
  }
  return { path: path.resolve(given), version }
}

/** Into a name of its own, then renamed: two builds at once, or a killed one, leave no half file. */
async function build(
  go: string,
  target: string,
  passedOver: readonly string[],
  say: (line: string) => void,
): Promise<void> {
  const place = path.join(path.dirname(target), `build-${process.pid}`)
  fs.mkdirSync(place, { recursive: true })
  say(`setting up: building nats-server ${natsVersionPinned} with ${go} (once, about a minute)`)
  const startedAt = performance.now()
  const ticking = setInterval(() => say(`setting up: still building nats-server, ${seconds(startedAt)} s`), 15_000)
  try {
    const code = await new Promise<number | null>((resolve, reject) => {
      const child = spawn(go, ['install', `github.com/nats-io/nats-server/v2@${natsVersionPinned}`], {
        stdio: ['ignore', 2, 2],
        env: { ...process.env, GOBIN: place, CGO_ENABLED: '0', GOFLAGS: '-mod=mod' },
      })
      child.on('error', reject)
      child.on('exit', resolve)
    })
    if (code !== 0) throw new SetupError(2, `go install failed (exit ${code}).\n${missingText(passedOver)}`)
    fs.renameSync(path.join(place, executable('nats-server')), target)
    say(`setting up: nats-server ${natsVersionPinned} is built (${seconds(startedAt)} s)`)
  } finally {
    clearInterval(ticking)
    fs.rmSync(place, { recursive: true, force: true })
  }
}

function missingText(passedOver: readonly string[]): string {
  const least = natsVersionMin.join('.')
  return [
    `A nats-server ${least} or newer is needed and none was found. Any of these will do:`,
    '  --nats nats://host:4222   (CARILLON_NATS)         use one that runs already',
    '  --nats-server /path/to/it (CARILLON_NATS_SERVER)  start this one',
    `  put nats-server ${least} or newer on PATH           releases: https://github.com/nats-io/nats-server/releases`,
    `  install Go (https://go.dev/dl)                    then ${natsVersionPinned} is built here by itself`,
    ...passedOver.map((line) => `Passed over: ${line}.`),
  ].join('\n')
}

function versionOf(file: string): string | undefined {
  const { stdout, error } = spawnSync(file, ['--version'], { encoding: 'utf8', timeout: 10_000 })
  return error === undefined ? /nats-server: v(\d+\.\d+\.\d+\S*)/.exec(stdout)?.[1] : undefined
}

function isNewEnough(version: string): boolean {
  const [major = 0, minor = 0] = version.split('.').map(Number)
  return major > natsVersionMin[0] || (major === natsVersionMin[0] && minor >= natsVersionMin[1])
}

function onPath(name: string, searchPath: string): string[] {
  const files = searchPath.split(path.delimiter).filter((folder) => folder !== '')
  return files.map((folder) => path.join(folder, executable(name))).filter(isExecutable)
}

function isExecutable(file: string): boolean {
  try {
    fs.accessSync(file, fs.constants.X_OK)
    return fs.statSync(file).isFile()
  } catch {
    return false // not there, or not for us: the next folder of PATH may have it
  }
}

function executable(name: string): string {
  return process.platform === 'win32' ? `${name}.exe` : name
}

function seconds(since: number): number {
  return Math.round((performance.now() - since) / 1000)
}
