// The bus on NATS passes the suite of every bus, against a real server.
import { cpSync, renameSync, rmSync } from 'node:fs'
import { describe, expect, test } from 'vitest'
import { systemClock } from '../../../shared/base/clock.ts'
import type { CorruptError } from '../../../shared/base/errors.ts'
import { patiently } from '../../../shared/base/patience.ts'
import { connectNats } from '../../../shared/bus/nats/nats-bus.ts'
import { startLink } from '../../cluster/link.ts'
import { findNatsServer, startNatsServer } from '../../cluster/nats-server.ts'
import { freePort } from '../../cluster/system.ts'
import { bytes, text, until } from '../../suites/bus-ground.ts'
import { busSuite } from '../../suites/bus-suite.ts'

const found = findNatsServer()

if ('reason' in found) console.warn(`skipped: the bus on NATS ${found.reason}`)

describe.skipIf('reason' in found)('on a real nats-server', () => {
  busSuite('nats bus', async () => {
    const server = await startNatsServer({ syncAlways: true, maxPayload: 1_048_576 })
    return {
      connect: (name) => connectNats({ servers: server.url, name, clock: systemClock, system: server.system }),
      loseServer: () => server.kill(),
      bringBackServer: () => server.restart(),
      close: () => server.stop(),
    }
  })

  describe('how much an acknowledged append survives', () => {
    test.each([
      [true, 'power-loss-safe'],
      [false, 'process-crash-safe'],
    ])('sync_interval always: %s makes it %s', async (syncAlways, durability) => {
      const server = await startNatsServer({ syncAlways })
      const bus = await connectNats({ servers: server.url, name: 'facts', clock: systemClock, system: server.system })
      expect(await bus.server()).toMatchObject({ durability })
      const ordinary = await connectNats({ servers: server.url, name: 'facts', clock: systemClock })
      expect(await ordinary.server()).toMatchObject({ durability: 'unknown' })
      await Promise.all([bus.close(), ordinary.close()])
      await server.stop()
    })
  })

  test('LOG-10: a server that comes back with less is told of, and read from its new end', async () => {
    const server = await startNatsServer()
    const bus = await connectNats({ servers: server.url, name: 'rewound', clock: systemClock })
    await bus.logs.ensure({ name: 'log', subjects: ['log.>'], bytesMax: 1e8, replicas: 1, duplicateWindowMs: 1_000 })
    const append = () => bus.logs.append('log', 'log.a', bytes('x'), { timeoutMs: 5_000 })
    const back = () => until(() => bus.isConnected(), 'the connection')
    for (let i = 0; i < 3; i++) await append()
    await server.kill()
    const copy = `${server.storeDir}-then`
    cpSync(server.storeDir, copy, { recursive: true })
    await server.restart()
    await back()
    for (let i = 0; i < 3; i++) await append()
    const seqs: number[] = []
    const codes: string[] = []
    const onError = (error: Error) => void codes.push((error as CorruptError).code)
    const consumer = bus.logs.consume('log', 1, (m) => void seqs.push(m.seq), onError)
    await until(() => seqs.length === 6, 'all six')
    await server.kill()
    rmSync(server.storeDir, { recursive: true })
    renameSync(copy, server.storeDir)
    await server.restart()
    await back()
    await until(() => codes.includes('log-rewound'), 'the alarm')
    expect((await append()).seq).toBe(4)
    await until(() => seqs.length === 7, 'the new fourth')
    expect(seqs).toEqual([1, 2, 3, 4, 5, 6, 4])
    await consumer.stop()
    await bus.close()
    await server.stop()
  })

  test('LOG-10: so is one that has filled the sequences again', async () => {
    const server = await startNatsServer()
    const bus = await connectNats({ servers: server.url, name: 'overtaken', clock: systemClock })
    const config = { name: 'log', subjects: ['log.>'], bytesMax: 1e8, replicas: 1, duplicateWindowMs: 1_000 }
    await bus.logs.ensure(config)
    for (let i = 0; i < 3; i++) await bus.logs.append('log', 'log.a', bytes('x'), { timeoutMs: 5_000 })
    const codes: string[] = []
    const seqs: number[] = []
    const onError = (error: Error) => void codes.push((error as CorruptError).code)
    const consumer = bus.logs.consume('log', 1, (m) => void seqs.push(m.seq), onError)
    await until(() => seqs.length === 3, 'all three')
    await server.kill()
    const other = await startNatsServer()
    const writer = await connectNats({ servers: other.url, name: 'writer', clock: systemClock })
    await writer.logs.ensure(config)
    for (let i = 0; i < 9; i++) await writer.logs.append('log', 'log.a', bytes('y'), { timeoutMs: 5_000 })
    await writer.close()
    await other.kill()
    rmSync(server.storeDir, { recursive: true })
    renameSync(other.storeDir, server.storeDir)
    await server.restart()
    await until(() => codes.includes('log-rewound'), 'the alarm')
    await consumer.stop()
    await bus.close()
    await Promise.all([server.stop(), other.stop()])
  })

  test.each(['at once', 'after others have written as much again'] as const)(
    'a watch over a bucket that lost its newest writes, and is found %s, shows what stands, once, and what is gone',
    async (when) => {
      const server = await startNatsServer()
      const connect = (name: string) => connectNats({ servers: server.url, name, clock: systemClock })
      const [bus, link] = [await connect('writer'), await startLink(server.url)]
      const watcher = await connectNats({ servers: link.url, name: 'watcher', clock: systemClock })
      const [bucket, other] = [await bus.bucket('k'), await watcher.bucket('k')]
      for (const key of ['older', 'stands']) await bucket.put(key, bytes('1'))
      const shown: string[] = []
      other.watch(
        '>',
        ({ key, value, revision }) => shown.push(`${key} ${value === undefined ? 'gone' : text(value)} ${revision}`),
        () => undefined,
      )
      await until(() => shown.length === 2, 'what stands')
      await server.kill()
      const copy = `${server.storeDir}-then`
      cpSync(server.storeDir, copy, { recursive: true })
      await server.restart()
      await until(() => bus.isConnected() && watcher.isConnected(), 'the connections')
      await bucket.put('older', bytes('2'))
      await bucket.put('again', bytes('2'))
      await bucket.put('lost', bytes('2'))
      await until(() => shown.length === 5, 'what is new')
      expect(shown.splice(0)).toEqual(['older 1 1', 'stands 1 2', 'older 2 3', 'again 2 4', 'lost 2 5'])
      await server.kill()
      link.cut()
      rmSync(server.storeDir, { recursive: true })
      renameSync(copy, server.storeDir)
      await server.restart()
      await until(() => bus.isConnected(), 'the connection')
      await bucket.put('new', bytes('3'))
      await bucket.put('again', bytes('3'))
      const later = when === 'at once' ? [] : ['new 4 5', 'new 5 6']
      for (const line of later) await bucket.put('new', bytes(line.split(' ')[1]!)) // the last one shown was replaced
      link.heal()
      const newest = when === 'at once' ? ['new 3 3', 'again 3 4'] : ['again 3 4', 'new 5 6']
      const expected = ['older 1 1', 'lost gone 0', ...newest].sort()
      const distinct = () => shown.filter((line) => !['new 4 5'].includes(line)).sort()
      await until(() => distinct().length >= expected.length, 'what stands now')
      expect(distinct()).toEqual(expected)
      await Promise.all([bus.close(), watcher.close()])
      link.stop()
      await server.stop()
    },
  )

  test('a watch is told that all was shown, also where keys are replaced while they are on their way', async () => {
    const server = await startNatsServer()
    const names = ['a', 'b', 'c', 'd']
    const connect = (name: string) => connectNats({ servers: server.url, name, clock: systemClock })
    const buses = await Promise.all(names.map(connect))
    const buckets = await Promise.all(buses.map((bus) => bus.bucket('k')))
    let [shown, settled] = [0, 0]
    const onEntry = ({ revision }: { revision: number }) => {
      shown = revision
    }
    const onSettled = () => {
      settled = shown
    }
    buckets[0]!.watch('>', onEntry, onSettled, onSettled)
    for (let round = 0; round < 2_000; round++) {
      const written = Math.max(...(await Promise.all(buckets.map((each) => each.put('key', bytes('x'))))))
      if (settled < written) await until(() => settled >= written, `revision ${written} of round ${round}`, 1_500)
    }
    await Promise.all(buses.map((bus) => bus.close()))
    await server.stop()
  })

  test('while servers elect a leader a bucket is not open; it is as soon as they have one', async () => {
    const ports = await Promise.all([freePort(), freePort(), freePort()])
    const start = (own: number) =>
      startNatsServer({ clusterPorts: [own, ...ports.filter((port) => port !== own)], maxFile: '1GB' })
    const [first, second, third] = ports as [number, number, number]
    const alone = await start(first)
    const bus = await connectNats({ servers: alone.url, name: 'early', clock: systemClock })
    const opening = bus.bucket('b')
    const others = await Promise.all([start(second), start(third)])
    const bucket = await opening
    const patience = { clock: systemClock, withinMs: 10_000 } // until the server asked has heard which one holds the bucket
    const revision = await patiently(() => bucket.put('key', bytes('value')), patience)
    expect(await bucket.get('key')).toMatchObject({ revision })
    await bus.close()
    await Promise.all([alone, ...others].map((server) => server.stop()))
  })

  test('no server is unavailable, at once', async () => {
    const connecting = connectNats({ servers: 'nats://127.0.0.1:1', name: 'nobody', clock: systemClock })
    await expect(connecting).rejects.toMatchObject({ kind: 'unavailable', code: 'bus-disconnected' })
  })
})
