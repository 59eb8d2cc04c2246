// B1, L15: what a view shows is what the bucket held at one moment, however its watch tells of changes.
import { expect, test } from 'vitest'
import { systemClock } from '../../../shared/base/clock.ts'
import { systemRandom } from '../../../shared/base/random.ts'
import { openBlocks } from '../../../shared/blocks/open.ts'
import { createMemoryHub } from '../../../shared/bus/memory-bus.ts'
import { memoryObjects } from '../../../shared/objects/memory-objects.ts'
import { silentLog } from '../../../shared/telemetry/log.ts'
import { withBuckets } from '../../altered-bus.ts'
import { until } from '../../suites/bus-ground.ts'

test('B1, L15: a watch that is behind tells of flushed.0 before the manifest: nobody sees it before that', async () => {
  const hub = createMemoryHub({ clock: systemClock, random: systemRandom })
  const deps = { objects: memoryObjects(), clock: systemClock, random: systemRandom, log: silentLog }
  const writer = await openBlocks({ ...deps, bus: hub.connect('writer') })
  let betweenEntries = () => {}
  // What others do while a watch tells of one entry after another: on the memory bus nothing could come between them.
  const bus = withBuckets(hub.connect('reader'), (bucket) => ({
    watch: (filter, onEntry, ...rest) =>
      bucket.watch(
        filter,
        (entry) => {
          onEntry(entry)
          betweenEntries()
        },
        ...rest,
      ),
  }))
  const reader = await openBlocks({ ...deps, bus })
  const listed = () => reader.manifest('acme')?.manifest.flushed['0'] ?? 0
  const seen: [flushed: number, listed: number][] = []
  betweenEntries = () => void seen.push([reader.flushed(0), listed()])
  hub.pause('reader')
  await writer.update('acme', (manifest) => ({ ...manifest, flushed: { 0: 1 } }))
  await writer.advanceFlushed(0, { segment: 1, mark: { seq: 1, nonce: 'n', incarnation: 'i' }, digests: {} })
  await writer.update('acme', (manifest) => ({ ...manifest, flushed: { 0: 1, 1: 1 } })) // takes the place of the one before
  hub.resume('reader')
  await until(() => reader.flushed(0) === 1, 'the watermark')
  expect(seen.length).toBeGreaterThan(1)
  expect(seen.filter(([flushed, inManifest]) => flushed > inManifest)).toEqual([])
  expect(listed()).toBe(1)
  reader.close()
  writer.close()
})
