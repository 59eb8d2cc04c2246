// Objects on JetStream pass the suite of every object store, against a real server; and what only JetStream can do to them.
import { readdirSync, readFileSync, writeFileSync } from 'node:fs'
import path from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { zstdDecompressSync } from 'node:zlib'
import { Objm } from '@nats-io/obj'
import { connect } from '@nats-io/transport-node'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { type Clock, systemClock } from '../../../shared/base/clock.ts'
import { PART_BYTES } from '../../../shared/objects/layout.ts'
import { BUCKET_MS, bucketOf } from '../../../shared/objects/names.ts'
import { natsObjects } from '../../../shared/objects/nats-objects.ts'
import { findNatsServer, type NatsServer, startNatsServer } from '../../cluster/nats-server.ts'
import { freeze } from '../../cluster/processes.ts'
import { call, noise, objectsSuite, prose, read, ulidA, ulidB } from '../../suites/objects-suite.ts'
import { infoSubject, ofObject, stateOf } from './nats-messages.ts'

const found = findNatsServer()
if ('reason' in found) console.warn(`skipped: objects on NATS ${found.reason}`)

const open = (server: NatsServer, clock: Clock = systemClock) =>
  natsObjects({ servers: server.url, name: 'test', clock })

test('an object lies with the 28 days of the ULID in its name', () => {
  expect(bucketOf('t/manifest/7')).toBe('meta')
  expect(bucketOf('01ARZ3NDEKTSV4RRFFQ69G5FAV/manifest/7')).toBe('meta')
  expect(bucketOf('t/00000000000000000000000000/index')).toBe('0')
  expect(bucketOf('t/01ARZ3NDEKTSV4RRFFQ69G5FAV/index')).toBe(String(Math.floor(1_469_922_850_259 / BUCKET_MS)))
})

describe.skipIf('reason' in found)('on a real nats-server', () => {
  objectsSuite('objects on JetStream', async () => {
    const server = await startNatsServer()
    const first = await open(server)
    await first.setUp({ replicas: 1, bytesMax: 0 }, call)
    const nc = await connect({ servers: server.url })
    return {
      connect: () => open(server),
      async damage(name) {
        const { stream, seqs } = await ofObject(nc, name)
        const reply = await nc.request(`$JS.API.STREAM.MSG.DELETE.${stream}`, JSON.stringify({ seq: seqs[1] }))
        if (!reply.json<{ success?: boolean }>().success) throw new Error(reply.string())
      },
      async close() {
        await nc.close()
        await first.close()
        await server.stop()
      },
    }
  })

  describe('in JetStream', () => {
    let server: NatsServer
    let store: Awaited<ReturnType<typeof natsObjects>>
    let nc: Awaited<ReturnType<typeof connect>>
    beforeAll(async () => {
      server = await startNatsServer()
      store = await open(server)
      nc = await connect({ servers: server.url })
      await store.setUp({ replicas: 1, bytesMax: 0 }, call)
    })
    afterAll(async () => {
      await nc.close()
      await store.close()
      await server.stop()
    })
    const bucketAt = (ulid: string) => `cln-blocks-${bucketOf(`t/${ulid}/`)}`

    test('NATS’ own client lists and reads what was stored: as it was given, or as .zst', async () => {
      const [plain, packed] = [noise(3 * PART_BYTES + 5), prose(3 * PART_BYTES + 5)]
      await store.create(`t/${ulidA}/chunks/000001`, plain, call)
      await store.create(`t/${ulidA}/index`, packed, call)
      const bucket = await new Objm(nc).open(bucketAt(ulidA))
      const names = (await bucket.list()).map((info) => info.name)
      expect(names.sort()).toEqual([`t/${ulidA}/chunks/000001`, `t/${ulidA}/index`])
      expect(Buffer.from((await bucket.getBlob(names[0] as string)) ?? []).equals(plain)).toBe(true)
      const zst = (await bucket.getBlob(names[1] as string)) ?? new Uint8Array(0)
      expect(zst.length).toBeLessThan(packed.length / 10)
      expect(zstdDecompressSync(zst).equals(packed)).toBe(true)
    })

    test('what NATS’ own client deleted can be made again', async () => {
      const name = `t/${ulidA}/removed`
      await store.create(name, noise(100), call)
      await (await new Objm(nc).open(bucketAt(ulidA))).delete(name)
      expect(await store.info(name, call)).toBeUndefined()
      await expect(store.read(name, { start: 0, end: 1 }, call)).rejects.toMatchObject({ code: 'object-missing' })
      await store.create(name, noise(100, 2), { ...call, readBack: true })
      expect(await read(store, name)).toEqual(Buffer.from(noise(100, 2)))
    })

    test('OBJECT-3: a deleted object gives its room back', async () => {
      const name = `t/${ulidB}/index`
      await store.create(name, noise(5 * PART_BYTES), call)
      expect((await stateOf(nc, `OBJ_${bucketAt(ulidB)}`)).messages).toBe(6)
      await store.delete(name, call)
      expect(await stateOf(nc, `OBJ_${bucketAt(ulidB)}`)).toMatchObject({ messages: 0, bytes: 0 })
    })

    test('OBJECT-1: a create that breaks off shows nothing, and its parts are swept when they are old', async () => {
      const ulid = '01KD0000000000000000000000'
      const broken = await open(server)
      await store.create(`t/${ulid}/whole`, noise(10), call)
      const creating = broken.create(`t/${ulid}/half`, noise(60 * PART_BYTES), call)
      const stream = `OBJ_${bucketAt(ulid)}`
      while ((await stateOf(nc, stream)).messages < 10) await sleep(2)
      await broken.close()
      await expect(creating).rejects.toMatchObject({ kind: 'unavailable' })
      await sleep(100)
      expect(await store.info(`t/${ulid}/half`, call)).toBeUndefined()
      expect(await store.sweep(30 * 60_000, call)).toEqual({ count: 0, bytes: 0 })
      const later = await open(server, { ...systemClock, now: () => Date.now() + 31 * 60_000 })
      const swept = await later.sweep(30 * 60_000, call)
      expect(swept.count).toBe(1)
      expect(swept.bytes).toBeGreaterThanOrEqual(8 * PART_BYTES)
      expect((await stateOf(nc, stream)).messages).toBe(2)
      expect(await read(later, `t/${ulid}/whole`)).toEqual(Buffer.from(noise(10)))
      await store.create(`t/${ulid}/half`, noise(1_000), call)
      await later.close()
    })

    test('OBJECT-2: a sequence that holds something else is damage', async () => {
      const name = `t/${ulidA}/moved`
      await store.create(name, noise(10), call)
      const { stream, seqs } = await ofObject(nc, name)
      const subject = infoSubject(name)
      const reply = await nc.request(`$JS.API.DIRECT.GET.${stream}`, JSON.stringify({ last_by_subj: subject }))
      const moved = reply.string().replace(`seqs\\":[${seqs[0]}]`, `seqs\\":[${(seqs[0] as number) + 1}]`) // its own info
      await nc.request(subject, moved)
      const fresh = await open(server)
      await expect(fresh.read(name, { start: 0, end: 10 }, call)).rejects.toMatchObject({ code: 'object-damaged' })
      await fresh.close()
    })

    test('an info that cannot be read, or states another hash, is healed as well, and nothing of the old one stays', async () => {
      const heals = { ...call, readBack: true, heals: true }
      for (const [i, spoil] of [
        (text: string) => text.slice(0, -2),
        (text: string) => text.replace(/sha256\\":\\"./, (head) => `${head.slice(0, -1)}${head.endsWith('0') ? 1 : 0}`),
      ].entries()) {
        const name = `t/${ulidA}/spoiled-${i}`
        await store.create(name, noise(10, i), call)
        const { stream } = await ofObject(nc, name)
        const reply = await nc.request(
          `$JS.API.DIRECT.GET.${stream}`,
          JSON.stringify({ last_by_subj: infoSubject(name) }),
        )
        expect(spoil(reply.string())).not.toBe(reply.string())
        await nc.request(infoSubject(name), spoil(reply.string()))
        const fresh = await open(server)
        await expect(fresh.create(name, noise(10, i), { ...call, readBack: true })).rejects.toBeDefined()
        await fresh.create(name, noise(10, i), heals)
        expect(await read(store, name)).toEqual(Buffer.from(noise(10, i)))
        await fresh.close()
      }
    })

    test('OBJECT-3: what was damaged gives its room back when it is healed', async () => {
      const ulid = '01KF0000000000000000000000'
      const name = `t/${ulid}/index`
      await store.create(name, noise(5 * PART_BYTES), call)
      const { stream, seqs } = await ofObject(nc, name)
      await nc.request(`$JS.API.STREAM.MSG.DELETE.${stream}`, JSON.stringify({ seq: seqs[2], no_erase: true }))
      await store.create(name, noise(5 * PART_BYTES), { ...call, readBack: true, heals: true })
      expect((await stateOf(nc, stream)).messages).toBe(6)
      expect(await read(store, name)).toEqual(Buffer.from(noise(5 * PART_BYTES)))
    })

    test('one server less: calls end within their time, and go on when it is back', async () => {
      const name = `t/${ulidA}/outage`
      await store.create(name, noise(2 * PART_BYTES), call)
      try {
        await freeze(server.pid)
        const startMs = Date.now()
        const short = { timeoutMs: 500 }
        await expect(store.read(name, { start: 0, end: 9 }, short)).rejects.toMatchObject({ code: 'objects-timeout' })
        await expect(store.create(`${name}2`, noise(9), short)).rejects.toMatchObject({ code: 'objects-timeout' })
        expect(Date.now() - startMs).toBeLessThan(4_000)
      } finally {
        await server.kill()
      }
      await expect(store.read(name, { start: 0, end: 9 }, call)).rejects.toMatchObject({ kind: 'unavailable' })
      await server.restart()
      let bytes: Uint8Array | undefined
      for (let i = 0; bytes === undefined && i < 100; i++) {
        bytes = await store.read(name, { start: 0, end: 9 }, call).catch(() => undefined)
        await sleep(50)
      }
      expect(bytes).toEqual(noise(2 * PART_BYTES).subarray(0, 9))
    })
  })

  test('a full bucket, a full server: objects-full, and nothing stays', async () => {
    const server = await startNatsServer({ maxFile: '8MB' })
    const store = await open(server)
    const nc = await connect({ servers: server.url })
    await store.setUp({ replicas: 1, bytesMax: 3 << 20 }, call)
    const big = store.create('t/manifest/1', noise(4 << 20), call)
    await expect(big).rejects.toMatchObject({ kind: 'unavailable', code: 'objects-full' })
    expect((await stateOf(nc, 'OBJ_cln-blocks-meta')).messages).toBe(0)
    await store.create('t/manifest/1', noise(1 << 20), call)
    await store.create(`t/${ulidA}/index`, noise(10), call)
    const third = store.create(`t/${ulidB}/index`, noise(10), call) // its bucket does not fit any more
    await expect(third).rejects.toMatchObject({ kind: 'unavailable', code: 'objects-full' })
    await store.setUp({ replicas: 1, bytesMax: 1 << 20 }, call)
    await store.create(`t/${ulidB}/index`, noise(10), call)
    await Promise.all([nc.close(), store.close()])
    await server.stop()
  })

  test.each([0.3, 0.6, 0.95])(
    'one flipped bit on the disk, at %s of the file: an error or the right bytes',
    async (at) => {
      const server = await startNatsServer()
      const before = await open(server)
      await before.setUp({ replicas: 1, bytesMax: 0 }, call)
      const bytes = noise(12 * PART_BYTES)
      const name = `t/${ulidA}/index`
      await before.create(name, bytes, call)
      await before.close()
      await server.kill()
      for (const entry of readdirSync(server.storeDir, { recursive: true, encoding: 'utf8' })) {
        if (!/OBJ_cln-blocks-\d+.*\.blk$/.test(entry)) continue
        const file = path.join(server.storeDir, entry)
        const content = readFileSync(file)
        const index = Math.floor(content.length * at)
        content[index] = (content[index] ?? 0) ^ 16
        writeFileSync(file, content)
      }
      await server.restart()
      const store = await open(server)
      const outcomes = await Promise.allSettled(
        Array.from({ length: 12 }, (_, i) =>
          store.read(name, { start: i * PART_BYTES, end: (i + 1) * PART_BYTES }, { timeoutMs: 3_000 }),
        ),
      )
      for (const [i, outcome] of outcomes.entries()) {
        if (outcome.status === 'fulfilled') {
          expect(Buffer.from(outcome.value).equals(bytes.subarray(i * PART_BYTES, (i + 1) * PART_BYTES))).toBe(true)
        } else expect(outcome.reason.code).toMatch(/^object-(damaged|missing)$|^objects-timeout$/)
      }
      expect(outcomes.some(({ status }) => status === 'rejected')).toBe(true)
      await store.close()
      await server.stop()
    },
  )
})
