// The watermarks of flushes: on the memory bus and on a real nats-server alike.
import { beforeAll, expect, test } from 'vitest'
import { encodeFlushed } from '../../../shared/blocks/codec.ts'
import type { Blocks } from '../../../shared/blocks/port.ts'
import { purgeBoundaries, restoreFlushed } from '../../../shared/blocks/watermarks.ts'
import type { KvBucket } from '../../../shared/bus/port.ts'
import { type Flushed, flushedKey } from '../../../shared/contracts/blocks.ts'
import { until } from '../../suites/bus-ground.ts'
import { call, codeOf, flushedTo, onEachBus, type Standing } from './blocks-ground.ts'

onEachBus('watermarks', (standing) => {
  let ground: Standing['ground']
  let blocks: Blocks
  let bucket: KvBucket
  const { fresh, freshNumber, open } = standing
  beforeAll(() => {
    ;({ ground, blocks, bucket } = standing)
  })

  test('LOG-15: a watermark rises by one, once, whoever asks how often', async () => {
    const partition = freshNumber()
    await blocks.advanceFlushed(partition, flushedTo(5))
    await Promise.all([1, 2, 3].map(() => blocks.advanceFlushed(partition, flushedTo(6))))
    const standing = () => bucket.newest([flushedKey(partition)])
    const before = await standing()
    await blocks.advanceFlushed(partition, flushedTo(5))
    expect(await standing(), 'and never goes back').toEqual(before)
    await expect(blocks.advanceFlushed(partition, flushedTo(8))).rejects.toMatchObject({ code: 'flushed-elsewhere' })
    await blocks.refresh(5_000)
    expect(blocks.flushed(partition)).toBe(6)
    expect(blocks.flushedRecord(partition)).toEqual({ ...flushedTo(6), digests: { 5: 'd5', 6: 'd6' } })
  })

  test('LOG-16: a log that is made anew begins where no purge of the one before reaches', async () => {
    for (const segment of [1, 2]) await blocks.advanceFlushed(70, flushedTo(segment))
    await blocks.advanceFlushed(71, flushedTo(1))
    await bucket.put(flushedKey(72), Buffer.from('junk'))
    const boundaries = await purgeBoundaries(bucket)
    expect([70, 71, 72].map((partition) => boundaries.get(partition))).toEqual([21, 11, undefined])
    const { logs } = await ground.connect()
    const name = fresh().replace(/[^a-z0-9]/gi, '')
    const config = { name, subjects: [`${name}.>`], bytesMax: 1e6, replicas: 1, duplicateWindowMs: 1_000 }
    await logs.ensure({ ...config, originSeq: boundaries.get(70)! })
    for (let i = 0; i < 5; i++) await logs.append(name, `${name}.a`, Buffer.from('x'), call)
    expect(await logs.purge(name, 20, 5_000), 'asked for while the one before stood').toBe(0)
    expect(await logs.state(name)).toMatchObject({ firstSeq: 21, lastSeq: 25 })
  })

  test('LOG-15: a watermark that went back, because the bucket lost its end, is written again by who knows it', async () => {
    const partition = freshNumber()
    for (let segment = 1; segment <= 5; segment++) await blocks.advanceFlushed(partition, flushedTo(segment))
    await blocks.refresh(5_000)
    const known = blocks.flushedRecord(partition)
    expect(known?.segment).toBe(5)
    const standing = async () => String((await bucket.newest([flushedKey(partition)]))[0]?.value)
    const whole = await standing()
    const shown: (Flushed | undefined)[] = []
    const hearing = blocks.onChange((change) => {
      if (change.kind === 'flushed' && change.partition === partition) shown.push(blocks.flushedRecord(partition))
    })
    await bucket.put(flushedKey(partition), encodeFlushed(flushedTo(3)))
    await until(() => shown.length > 0, 'it was told')
    expect(shown[0], 'it was true, and stays so').toEqual(known)
    hearing.stop()
    await expect.poll(standing, { timeout: 5_000 }).toBe(whole)
    await bucket.delete(flushedKey(partition))
    await expect.poll(standing, { timeout: 5_000 }).toBe(whole)
    for (const junk of ['junk', 'null', '{"v":1,"segment":-1}', '']) {
      await bucket.put(flushedKey(partition), Buffer.from(junk))
      await expect.poll(standing, { timeout: 5_000, message: junk }).toBe(whole)
      expect(blocks.flushedRecord(partition)).toEqual(known)
    }
    await blocks.advanceFlushed(partition, flushedTo(6))
    await until(() => blocks.flushed(partition) === 6, 'the next')
  })

  test('a watermark that a newer version wrote is left as it is', async () => {
    const partition = freshNumber()
    await blocks.advanceFlushed(partition, flushedTo(1))
    await blocks.refresh(5_000)
    await bucket.put(flushedKey(partition), Buffer.from('{"v":9}'))
    await until(() => codeOf(() => blocks.flushed(partition)) === 'newer-version', 'it is shown')
    await expect(restoreFlushed(bucket, partition, flushedTo(1))).rejects.toMatchObject({ code: 'newer-version' })
    const [entry] = await bucket.newest([flushedKey(partition)])
    expect(Buffer.from(entry!.value!).toString()).toBe('{"v":9}')
  })

  test('LOG-15: the larger of watermark and manifest counts, and a watermark is never seen before its manifest', async () => {
    const tenant = fresh()
    const partition = freshNumber()
    const watcher = await open()
    let aheadCount = 0
    watcher.onChange(() => {
      const listed = watcher.manifest(tenant)?.manifest.flushed[String(partition)] ?? 0
      if (watcher.flushed(partition) > listed) aheadCount++
    })
    for (let segment = 1; segment <= 30; segment++) {
      await blocks.update(tenant, (manifest) => ({ ...manifest, flushed: { [partition]: segment } }))
      await blocks.advanceFlushed(partition, flushedTo(segment))
    }
    await blocks.update(tenant, (manifest) => ({ ...manifest, flushed: { [partition]: 31 } }))
    await until(() => watcher.watermark(tenant, partition) === 31, 'the newest watermark')
    expect(watcher.flushed(partition)).toBe(30)
    expect(aheadCount).toBe(0)
    watcher.close()
  })
})
