// A real Prometheus as a child process: it scrapes what it is told and remote-writes to us.
//
// The binary: $CARILLON_TEST_PROMETHEUS, else `prometheus` on the PATH; promtool is the one beside it, else the one on the PATH.
import { type ChildProcess, execFileSync, spawn } from 'node:child_process'
import { existsSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { basename, dirname, join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { stringify } from 'yaml'
import { endProcess, freePort } from './system.ts'

const START_MS_MAX = 20_000
const LOG_CHARACTERS_MAX = 20_000

export interface FoundPrometheus {
  readonly path: string
  readonly promtool: string
  /** 2 writes remote_write 1.0, 3 and newer 2.0. A build that does not know its version counts as new. */
  readonly major: number
  readonly version: string
}

/** The binary to use, or why there is none. */
export function findPrometheus(): FoundPrometheus | { readonly reason: string } {
  const path = process.env['CARILLON_TEST_PROMETHEUS'] ?? 'prometheus'
  try {
    const said = execFileSync(path, ['--version'], { encoding: 'utf8', stdio: ['ignore', 'pipe', 'pipe'] })
    const version = /version (\d+\.\d+\.\d+[^\s,]*)/.exec(said)?.[1] ?? '3'
    const beside = join(dirname(path), basename(path).replace('prometheus', 'promtool'))
    const promtool = path.includes('/') && existsSync(beside) ? beside : 'promtool'
    return { path, promtool, version, major: Number.parseInt(version, 10) }
  } catch {
    return { reason: `needs Prometheus: ${path} does not run; put it on the PATH or set CARILLON_TEST_PROMETHEUS` }
  }
}

export interface Prometheus {
  readonly url: string
  readonly said: () => string
  stop(): Promise<void>
  /** kill -9. */
  kill(): void
}

export interface PrometheusOptions {
  /** job → host:port of its targets. */
  readonly jobs: Readonly<Record<string, readonly string[]>>
  /** Absent: it writes to nobody. */
  readonly remoteWriteUrl?: string
  /** Absent: it reads from nobody. */
  readonly remoteReadUrl?: string
  /** Default: when it writes to somebody. */
  readonly scrapesItself?: boolean
  /** Blocks that are there from the start; the folder stays the caller's. */
  readonly dataDir?: string
  /** Further flags. */
  readonly args?: readonly string[]
  /** Further features. */
  readonly features?: readonly string[]
  readonly externalLabels?: Readonly<Record<string, string>>
}

export async function startPrometheus(found: FoundPrometheus, options: PrometheusOptions): Promise<Prometheus> {
  const dir = mkdtempSync(join(tmpdir(), 'carillon-prometheus-'))
  const address = `127.0.0.1:${await freePort()}`
  writeFileSync(join(dir, 'prometheus.yml'), configText(found, options, address))
  const args = [
    `--config.file=${join(dir, 'prometheus.yml')}`,
    `--storage.tsdb.path=${options.dataDir ?? join(dir, 'data')}`,
    `--web.listen-address=${address}`,
    '--log.level=warn',
    `--enable-feature=${['exemplar-storage', 'native-histograms', ...(found.major >= 3 ? ['metadata-wal-records'] : []), ...(options.features ?? [])].join(',')}`,
    ...(options.args ?? []),
  ]
  const child = spawn(found.path, args, { stdio: ['ignore', 'ignore', 'pipe'] })
  let said = ''
  child.stderr?.on('data', (text) => {
    said = (said + text).slice(-LOG_CHARACTERS_MAX)
  })
  const stop = async () => {
    await endProcess(child)
    rmSync(dir, { recursive: true, force: true })
  }
  const url = `http://${address}`
  const kill = () => void child.kill('SIGKILL')
  if (await isReady(url, child)) return { url, said: () => said, stop, kill }
  await stop()
  throw new Error(`Prometheus did not start: ${said}`)
}

/** Native histograms are a feature flag up to 3.7, a setting from 3.8 on. */
export function hasHistogramSetting({ major, version }: FoundPrometheus): boolean {
  const minor = Number(version.split('.')[1] ?? Number.POSITIVE_INFINITY)
  return major > 3 || (major === 3 && minor >= 8)
}

function configText(found: FoundPrometheus, options: PrometheusOptions, address: string): string {
  const { jobs, remoteWriteUrl, remoteReadUrl, externalLabels = {} } = options
  const scrapesItself = options.scrapesItself ?? remoteWriteUrl !== undefined
  const targets = scrapesItself ? { ...jobs, prometheus: [address] } : jobs
  return stringify({
    global: { scrape_interval: '1s', scrape_timeout: '1s', external_labels: externalLabels },
    scrape_configs: Object.entries(targets).map(([job, addresses]) => ({
      job_name: job,
      static_configs: [{ targets: addresses }],
      ...(found.major >= 3 && { always_scrape_classic_histograms: true }),
      ...(hasHistogramSetting(found) && { scrape_native_histograms: true }),
    })),
    remote_read: remoteReadUrl === undefined ? [] : [{ url: remoteReadUrl, read_recent: true }],
    remote_write: (remoteWriteUrl === undefined ? [] : [remoteWriteUrl]).map((url) => ({
      url,
      send_exemplars: true,
      send_native_histograms: true,
      ...(found.major >= 3 && { protobuf_message: 'io.prometheus.write.v2.Request' }),
      queue_config: { batch_send_deadline: '500ms', max_shards: 2, min_backoff: '100ms' },
      metadata_config: { send: true, send_interval: '2s' },
    })),
  })
}

async function isReady(url: string, child: ChildProcess): Promise<boolean> {
  const endMs = Date.now() + START_MS_MAX
  while (Date.now() < endMs && child.exitCode === null) {
    const answer = await fetch(`${url}/-/ready`).catch(() => undefined)
    if (answer?.status === 200) return true
    await sleep(50)
  }
  return false
}
