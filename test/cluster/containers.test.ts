// The actors on a nats-server that runs in a container: what is pushed is read back. The image holds nothing but the static binary;
// it is made here where .ci/run has not made it.
import { execFileSync, spawnSync } from 'node:child_process'
import { copyFileSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { GenericContainer, type StartedTestContainer, Wait } from 'testcontainers'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { pushUntilTaken, sample, valuesOf } from './client.ts'
import { findNatsServer } from './nats-server.ts'
import { type System, startSystem } from './system.ts'

const IMAGE = 'carillon-nats:local'
const NATS_PORT = 4222

// Its cleaning container would be fetched from a registry; what is started here is stopped here.
process.env['TESTCONTAINERS_RYUK_DISABLED'] = 'true'

const answers = (...args: string[]) => spawnSync('docker', args, { stdio: 'ignore', timeout: 10_000 }).status === 0

/** Why there can be no such container here, or undefined. */
function reasonAgainst(): string | undefined {
  if (!answers('info')) return 'no container engine answers (docker info)'
  if (answers('image', 'inspect', IMAGE)) return undefined
  const found = findNatsServer()
  if ('reason' in found) return `the image ${IMAGE} is not there and ${found.reason}`
  if (process.platform !== 'linux') return `the image ${IMAGE} is not there and can only be made on Linux`
  return undefined
}

const reason = reasonAgainst()
if (reason !== undefined) console.warn(`skipped: actors on a nats-server in a container: ${reason}`)

function makeImage(): void {
  const found = findNatsServer()
  if ('reason' in found) throw new Error(found.reason)
  const context = mkdtempSync(join(tmpdir(), 'carillon-image-'))
  try {
    copyFileSync(found.path, join(context, 'nats-server'))
    const lines = ['FROM scratch', 'COPY nats-server /nats-server', 'ENTRYPOINT ["/nats-server"]']
    writeFileSync(join(context, 'Dockerfile'), `${lines.join('\n')}\n`)
    const env = { ...process.env, DOCKER_BUILDKIT: '0' } // the classic builder needs no plugin
    execFileSync('docker', ['build', '--quiet', '--tag', IMAGE, context], { env, stdio: ['ignore', 'ignore', 'pipe'] })
  } finally {
    rmSync(context, { recursive: true, force: true })
  }
}

describe.skipIf(reason !== undefined)('a nats-server in a container', () => {
  let container: StartedTestContainer
  let system: System
  beforeAll(async () => {
    if (!answers('image', 'inspect', IMAGE)) makeImage()
    container = await new GenericContainer(IMAGE)
      .withCommand(['-js', '-sd', '/data'])
      .withExposedPorts(NATS_PORT)
      .withWaitStrategy(Wait.forLogMessage(/Server is ready/))
      .start()
    const url = `nats://${container.getHost()}:${container.getMappedPort(NATS_PORT)}`
    system = await startSystem({ args: ['--nats', url, '--log-bytes-max', '64MiB'] })
    expect(system.ready.nats).toBe(url)
  })
  afterAll(async () => {
    await system?.stop()
    await container?.stop()
  })

  test('carries a push into the log and a query to its owner', async () => {
    const { status, position } = await pushUntilTaken(system.url, { series: [sample('contained', 42)] })
    expect(status).toBe(204)
    expect(await valuesOf(system.url, 'contained', { consistency: position })).toEqual(['42'])
    expect(system.ready.processes.map(({ role }) => role)).not.toContain('nats-server')
    expect(system.ready.durability).not.toBe('power-loss-safe') // nobody said that it flushes every write
  })
})
