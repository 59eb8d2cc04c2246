// A real vmagent as a child process: it scrapes what it is told and remote-writes to us and to whom it is compared with.
//
// The binary: $CARILLON_TEST_VMAGENT; with `build` there, Go builds the pinned version once, into .cache of the project (some minutes).
import { type ChildProcess, execFileSync, spawn } from 'node:child_process'
import { existsSync, mkdirSync, mkdtempSync, renameSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { stringify } from 'yaml'
import { endProcess, freePort } from './system.ts'

const PINNED = 'v1.150.0'
const PACKAGE = 'github.com/VictoriaMetrics/VictoriaMetrics/app/vmagent'
const CACHE = new URL(`../../.cache/vmagent-${PINNED}`, import.meta.url).pathname
const LOG_CHARACTERS_MAX = 20_000
export const VMAGENT_BUILD_MS_MAX = 900_000

/** How to come by the binary, or why there is none. */
export function findVmagent(): { readonly path: string; readonly isBuilt: boolean } | { readonly reason: string } {
  const given = process.env['CARILLON_TEST_VMAGENT'] ?? ''
  const cached = join(CACHE, 'vmagent')
  if (given !== '' && given !== 'build') return { path: given, isBuilt: existsSync(given) }
  if (existsSync(cached)) return { path: cached, isBuilt: true }
  if (given === '') return { reason: 'needs vmagent: set CARILLON_TEST_VMAGENT to it, or to `build` where there is Go' }
  return { path: cached, isBuilt: false }
}

/** Into a folder of its own, then renamed: two builds at once, or a killed one, leave no half file. */
export function buildVmagent(path: string): void {
  mkdirSync(CACHE, { recursive: true })
  const place = mkdtempSync(join(CACHE, 'build-'))
  const env = { ...process.env, GOBIN: place, CGO_ENABLED: '0', GOFLAGS: '-mod=mod' }
  try {
    execFileSync('go', ['install', `${PACKAGE}@${PINNED}`], { env, stdio: 'pipe', timeout: VMAGENT_BUILD_MS_MAX })
    renameSync(join(place, 'vmagent'), path)
  } finally {
    rmSync(place, { recursive: true, force: true })
  }
}

export interface Vmagent {
  readonly url: string
  readonly said: () => string
  stop(): Promise<void>
}

export interface VmagentOptions {
  /** job → host:port of its targets. */
  readonly jobs: Readonly<Record<string, readonly string[]>>
  readonly externalLabels?: Readonly<Record<string, string>>
  readonly remoteWriteUrls: readonly string[]
  /** Flags of each receiver's protocol, as it is given to vmagent. */
  readonly args?: readonly string[]
}

export async function startVmagent(path: string, options: VmagentOptions): Promise<Vmagent> {
  const dir = mkdtempSync(join(tmpdir(), 'carillon-vmagent-'))
  const address = `127.0.0.1:${await freePort()}`
  const config = {
    global: { scrape_interval: '1s', scrape_timeout: '1s', external_labels: options.externalLabels ?? {} },
    scrape_configs: Object.entries({ ...options.jobs, vmagent: [address] }).map(([job, targets]) => ({
      job_name: job,
      static_configs: [{ targets }],
    })),
  }
  writeFileSync(join(dir, 'scrape.yml'), stringify(config))
  const args = [
    `-promscrape.config=${join(dir, 'scrape.yml')}`,
    `-httpListenAddr=${address}`,
    `-remoteWrite.tmpDataPath=${join(dir, 'queue')}`,
    '-remoteWrite.queues=1', // a Prometheus takes samples in order
    '-remoteWrite.flushInterval=500ms',
    ...options.remoteWriteUrls.map((url) => `-remoteWrite.url=${url}`),
    ...(options.args ?? []),
  ]
  const child: ChildProcess = spawn(path, args, { stdio: ['ignore', 'ignore', 'pipe'] })
  let said = ''
  child.stderr?.on('data', (text) => {
    said = (said + text).slice(-LOG_CHARACTERS_MAX)
  })
  return {
    url: `http://${address}`,
    said: () => said,
    async stop() {
      await endProcess(child)
      rmSync(dir, { recursive: true, force: true })
    },
  }
}
