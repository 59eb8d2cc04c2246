// Disks that fail: a power cut (the image of a real file system is copied while the server writes, and mounted again), and a full disk.
// Needs root and loop devices; skips by name where they are missing.
import { rmSync } from 'node:fs'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { describe, expect, test } from 'vitest'
import { systemClock } from '../../shared/base/clock.ts'
import { systemRandom } from '../../shared/base/random.ts'
import { natsObjects } from '../../shared/objects/nats-objects.ts'
import { until } from '../waiting.ts'
import { checkAll, faultsOfOwners, settled, withBus } from './check.ts'
import { fillUp, makeImage, mounted, run, whyNoLoopDevices } from './disks.ts'
import { afterwards, cleanUpAfterEach, isSkipped, loadOn, shortArgs, startOn, startServer } from './fault-ground.ts'
import type { Load } from './load.ts'
import { freeze, killEverything, signal } from './processes.ts'

const lack = whyNoLoopDevices()
if (lack !== undefined) console.log(`rows 6 and 10 are skipped: ${lack}`)

describe.skipIf(isSkipped || lack !== undefined)('failing disks', () => {
  cleanUpAfterEach()

  test('row 6: a power cut loses nothing acknowledged when the server syncs every write', async () => {
    const { ready, faults, acknowledged } = await powerCut({ syncAlways: true })
    console.log(`row 6, always: ${acknowledged} samples acknowledged before the cut`)
    expect(ready.durability).toBe('power-loss-safe')
    expect(faults).toEqual([])
  })

  test('row 6: with the default sync the same cut loses data, and the durability gate had said so', async () => {
    const { ready, faults, acknowledged } = await powerCut({ syncAlways: false })
    console.log(`row 6, default: of ${acknowledged} samples acknowledged before the cut: ${faults[0]}`)
    expect(ready.durability).toBe('process-crash-safe')
    expect(faults[0]).toMatch(/\d+ × lost/)
  })

  test('row 10: a full disk answers 503 only; everything acknowledged is there when space is back', async () => {
    const disk = mounted(makeImage(96))
    const server = await startServer({ syncAlways: true, storeDir: join(disk, 'store'), maxFile: '4GB' })
    const system = await startOn(server, shortArgs)
    const load = loadOn(system, { pauseMs: 0, seriesPerPush: 200 })
    await until('pushes get through', () => load.acknowledgedAtMs().length > 30)
    const ballast = join(disk, 'ballast')
    fillUp(disk, ballast, 200_000)
    await until('the disk is full', () => load.answers.slice(-4).every(({ outcome }) => outcome !== '204'), 40_000)
    await sleep(3_000)
    const refused = load.answers.at(-1)!
    rmSync(ballast)
    const freedMs = performance.now()
    const isThrough = () => load.acknowledgedAtMs().some((atMs) => atMs > freedMs)
    const isHealedAlone = await until('a push gets through', isThrough, 8_000).then(
      () => true,
      () => false,
    )
    if (!isHealedAlone) await server.restart()
    await until('a push gets through', isThrough)
    console.log(
      `row 10: full: ${refused.outcome} ${refused.text}; afterwards ${isHealedAlone ? 'by itself' : 'after a restart of nats-server'}`,
    )
    await load.stop()
    const outcomes = load.outcomes()
    console.log(`row 10: ${JSON.stringify(outcomes)}`)
    expect(Object.keys(outcomes).filter((outcome) => !['204', '503', 'connection'].includes(outcome))).toEqual([])
    await checkAll({ url: system.url, nats: server.url }, load.ledger)
  })

  test('row 10: objects on a full disk: objects-full, nothing half is seen, and what stood is read', async () => {
    const disk = mounted(makeImage(48))
    const server = await startServer({ syncAlways: true, storeDir: join(disk, 'store'), maxFile: '4GB' })
    const open = () => natsObjects({ servers: server.url, name: 'disk', clock: systemClock })
    const store = await open()
    afterwards(() => store.close())
    const call = { timeoutMs: 3_000 }
    const bytes = systemRandom.bytes(3 << 20)
    await store.setUp({ replicas: 1, bytesMax: 0 }, call)
    await store.create('t/manifest/1', bytes, { ...call, readBack: true })
    const ballast = join(disk, 'ballast')
    fillUp(disk, ballast, 1 << 20)
    const refused = store.create('t/manifest/2', bytes, call)
    await expect(refused).rejects.toMatchObject({ kind: 'unavailable', code: 'objects-full' })
    expect(await store.info('t/manifest/2', call)).toBeUndefined()
    rmSync(ballast)
    await server.restart() // a stream that could not be written stays so until then
    const after = await open()
    afterwards(() => after.close())
    await after.create('t/manifest/2', bytes, { timeoutMs: 10_000, readBack: true })
    expect(Buffer.from(await after.read('t/manifest/1', { start: 0, end: bytes.length }, call)).equals(bytes)).toBe(
      true,
    )
  })
})

/** Writes, stops the machine dead, goes on from what the disk held; what is then wrong with what was acknowledged before. */
async function powerCut({ syncAlways }: { syncAlways: boolean }) {
  const image = makeImage(160)
  const server = await startServer({ syncAlways, storeDir: join(mounted(image), 'store'), maxFile: '4GB' })
  const system = await startOn(server, shortArgs)
  const load: Load = loadOn(system, { pauseMs: 0 })
  await until('pushes get through', () => load.acknowledgedAtMs().length > 300)
  const kept = load.ledger.acknowledged()
  await freeze(server.pid) // the moment of the cut: what it had not handed to the disk by now is gone
  const copy = `${image}.copy`
  run('cp', ['--sparse=always', image, copy])
  signal(server.pid, 'SIGKILL')
  await load.abandon()
  await killEverything(system)
  load.ledger.keepAcknowledged(kept)

  const again = await startServer({ syncAlways, storeDir: join(mounted(copy), 'store'), maxFile: '4GB' })
  const after = await startOn(again, shortArgs)
  const faults = await withBus(again.url, async (bus) =>
    faultsOfOwners({ bus, nats: again.url }, await settled(after.url, bus), load.ledger),
  )
  return { ready: system.ready, faults, acknowledged: kept.size }
}
