// Actors on a nats-server in a container, as in a cluster. The image is made by .ci/run from a static binary.
import { spawnSync } from 'node:child_process'
import fs from 'node:fs'
import path from 'node:path'
import { GenericContainer, Wait } from 'testcontainers'
import { expect, it } from 'vitest'
import { launch, startArgs, temporaryFolder } from './carillon-process.ts'

// Its cleaning container would be fetched from a registry; we stop what we start ourselves.
process.env['TESTCONTAINERS_RYUK_DISABLED'] ??= 'true'

const image = 'carillon-nats:local'
const hasCompose = spawnSync('docker-compose', ['version'], { stdio: 'ignore' }).status === 0
const hasImage = spawnSync('docker', ['image', 'inspect', image], { stdio: 'ignore' }).status === 0
const why = hasImage ? '' : ' (skipped: no container engine with the image carillon-nats:local)'

it.runIf(hasImage)(`all actors run on a nats-server in a container${why}`, async () => {
  const container = await new GenericContainer(image)
    .withExposedPorts(4222)
    .withWaitStrategy(Wait.forLogMessage(/Server is ready/))
    .start()
  const data = temporaryFolder()
  const url = `nats://${container.getHost()}:${container.getMappedPort(4222)}`
  const one = launch(startArgs(data, `--nats=${url}`, '--log-bytes-max=64MiB'))
  try {
    const facts = await one.ready
    expect(facts.nats).toBe(url)
    expect(facts.durability).not.toBe('power-loss-safe') // it was started without sync_interval: always
    expect((await fetch(`${facts.query}/-/healthy`)).status).toBe(200)
    const answer = await fetch(`${facts.query}/api/v1/query?query=vector(1)`)
    expect(await answer.json()).toMatchObject({ status: 'success', data: { resultType: 'vector' } })
  } finally {
    one.child.kill('SIGTERM')
    await one.ended
    await container.stop()
    fs.rmSync(data, { recursive: true, force: true })
  }
})

it.runIf(hasCompose)('compose.yaml is one that docker-compose takes', () => {
  const file = path.resolve(import.meta.dirname, '../../../compose.yaml')
  const { status, stdout, stderr } = spawnSync('docker-compose', ['-f', file, 'config'], { encoding: 'utf8' })
  expect({ status, stderr }).toMatchObject({ status: 0 })
  for (const service of ['nats', 'gateway', 'distributor', 'ingester-1', 'ingester-2', 'querier', 'prometheus']) {
    expect(stdout).toContain(`\n  ${service}:`)
  }
})
