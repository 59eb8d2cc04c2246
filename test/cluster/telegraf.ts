// A real Telegraf as a child process: it asks targets for their metrics, looks at this machine, and remote-writes to us and to whom it is compared with.
//
// The binary: $CARILLON_TEST_TELEGRAF; with the plugins inputs.http, inputs.cpu, inputs.mem, outputs.http, the parser of Prometheus' text and the
// serializer of remote write.
import { type ChildProcess, spawn } from 'node:child_process'
import { existsSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { endProcess } from './system.ts'

const LOG_CHARACTERS_MAX = 20_000

export function findTelegraf(): { readonly path: string } | { readonly reason: string } {
  const path = process.env['CARILLON_TEST_TELEGRAF'] ?? ''
  if (path === '') return { reason: 'needs Telegraf: set CARILLON_TEST_TELEGRAF to it' }
  return existsSync(path) ? { path } : { reason: `CARILLON_TEST_TELEGRAF: there is no ${path}` }
}

export interface Telegraf {
  readonly said: () => string
  stop(): Promise<void>
}

export interface TelegrafOptions {
  /** Addresses of pages in Prometheus' text format. */
  readonly pages: readonly string[]
  /** On every series. */
  readonly tags: Readonly<Record<string, string>>
  readonly remoteWriteUrls: readonly string[]
}

export async function startTelegraf(path: string, options: TelegrafOptions): Promise<Telegraf> {
  const dir = mkdtempSync(join(tmpdir(), 'carillon-telegraf-'))
  const file = join(dir, 'telegraf.conf')
  writeFileSync(file, configOf(options))
  const child: ChildProcess = spawn(path, ['--config', file], { stdio: ['ignore', 'ignore', 'pipe'] })
  let said = ''
  child.stderr?.on('data', (text) => {
    said = (said + text).slice(-LOG_CHARACTERS_MAX)
  })
  return {
    said: () => said,
    async stop() {
      await endProcess(child)
      rmSync(dir, { recursive: true, force: true })
    },
  }
}

function configOf({ pages, tags, remoteWriteUrls }: TelegrafOptions): string {
  const outputs = remoteWriteUrls.map((url) => [
    ...['[[outputs.http]]', `url = "${url}"`, 'data_format = "prometheusremotewrite"', '[outputs.http.headers]'],
    ...['Content-Type = "application/x-protobuf"', 'Content-Encoding = "snappy"'],
    'X-Prometheus-Remote-Write-Version = "0.1.0"',
  ])
  const lines = [
    ...['[agent]', 'interval = "1s"', 'flush_interval = "1s"', 'metric_batch_size = 5000'],
    ...['[global_tags]', ...Object.entries(tags).map(([name, value]) => `${name} = "${value}"`)],
    ...['[[inputs.cpu]]', '[[inputs.mem]]'],
    ...['[[inputs.http]]', `urls = ${JSON.stringify(pages)}`, 'data_format = "prometheus"'],
    ...outputs.flat(),
  ]
  return `${lines.join('\n')}\n`
}
