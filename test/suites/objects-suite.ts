// What every object store promises. Run on memory, on a directory, and on JetStream of a real server.
import { createHash } from 'node:crypto'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { seededRandom } from '../../shared/base/random.ts'
import { PART_BYTES } from '../../shared/objects/layout.ts'
import type { ObjectStore } from '../../shared/objects/port.ts'

export interface ObjectsGround {
  /** Another client of the same store. */
  connect(): Promise<ObjectStore>
  /** What lies at rest of this object is changed. */
  damage(name: string): Promise<void>
  close(): Promise<void>
}

export const call = { timeoutMs: 10_000 }
export const ulidA = '01JD0000000000000000000000'
export const ulidB = '00JD0000000000000000000000'

/** `size` bytes that do not compress. */
export function noise(size: number, seed = 1): Uint8Array {
  return seededRandom(seed).bytes(size)
}

/** `size` bytes that do. */
export function prose(size: number): Uint8Array {
  return Buffer.from('{job="node",instance="host-0123456789:9100"} '.repeat(Math.ceil(size / 45))).subarray(0, size)
}

export function objectsSuite(name: string, open: () => Promise<ObjectsGround>): void {
  describe(name, () => {
    let ground: ObjectsGround
    let store: ObjectStore
    let other: ObjectStore
    beforeAll(async () => {
      ground = await open()
      store = await ground.connect()
      other = await ground.connect()
    }, 30_000)
    afterAll(async () => {
      await store?.close()
      await other?.close()
      await ground?.close()
    })

    test.each([
      ['nothing', new Uint8Array(0)],
      ['one byte', noise(1)],
      ['a part', noise(PART_BYTES)],
      ['a part and a byte', noise(PART_BYTES + 1)],
      ['parts that pack', prose(3 * PART_BYTES + 17)],
    ])('what was created is read, by others too: %s', async (kind, bytes) => {
      const object = `t/${ulidA}/${kind.replaceAll(' ', '-')}`
      const info = await store.create(object, bytes, { ...call, readBack: true })
      expect(info).toMatchObject({ name: object, size: bytes.length, sha256: sha256(bytes) })
      expect(await other.info(object, call)).toMatchObject({ name: object, size: bytes.length, sha256: sha256(bytes) })
      expect(await read(other, object)).toEqual(Buffer.from(bytes))
    })

    test('any range is read, and none beyond the end', async () => {
      for (const [kind, bytes] of [
        ['noise', noise(3 * PART_BYTES + 100)],
        ['prose', prose(3 * PART_BYTES + 100)],
      ] as const) {
        const object = `t/${ulidA}/ranges/${kind}`
        await store.create(object, bytes, call)
        for (const [start, end] of [
          [0, 0],
          [0, 1],
          [5, 70_000],
          [PART_BYTES - 1, PART_BYTES + 1],
          [PART_BYTES, 2 * PART_BYTES],
          [10, bytes.length],
          [bytes.length, bytes.length],
        ] as const) {
          const range = await store.read(object, { start, end }, call)
          expect(Buffer.from(range).equals(bytes.subarray(start, end)), `${kind} ${start}-${end}`).toBe(true)
        }
        for (const [start, end] of [
          [0, bytes.length + 1],
          [-1, 2],
          [7, 6],
        ] as const) {
          await expect(store.read(object, { start, end }, call)).rejects.toMatchObject({ code: 'object-damaged' })
        }
      }
    })

    test('the bytes read are the caller’s, and the bytes given stay his', async () => {
      const given = noise(1_000)
      await store.create('t/own', given, call)
      given.fill(0)
      const first = await read(store, 't/own')
      first.fill(0)
      expect(await read(store, 't/own')).toEqual(Buffer.from(noise(1_000)))
    })

    test('creating the same again succeeds, something else is a conflict and changes nothing', async () => {
      await store.create('t/manifest/1', Buffer.from('one'), call)
      await other.create('t/manifest/1', Buffer.from('one'), { ...call, readBack: true })
      await expect(other.create('t/manifest/1', Buffer.from('two'), call)).rejects.toMatchObject({
        kind: 'conflict',
        code: 'object-exists',
      })
      expect((await read(store, 't/manifest/1')).toString()).toBe('one')
    })

    test('of creators at the same time one wins, and all that gave the same bytes', async () => {
      const rivals = Array.from({ length: 6 }, (_, i) => noise(PART_BYTES + 10, 100 + (i % 3)))
      const outcomes = await Promise.allSettled(
        rivals.map((bytes, i) => (i % 2 === 0 ? store : other).create(`t/${ulidA}/race`, bytes, call)),
      )
      const stands = sha256(await read(other, `t/${ulidA}/race`))
      for (const [i, outcome] of outcomes.entries()) {
        const isSame = sha256(rivals[i] as Uint8Array) === stands
        expect(outcome.status).toBe(isSame ? 'fulfilled' : 'rejected')
        if (outcome.status === 'rejected') expect(outcome.reason).toMatchObject({ code: 'object-exists' })
      }
    })

    test('what is not there is missing, never empty, also where there is no bucket yet', async () => {
      for (const object of ['t/none', `t/${ulidB}/none`, 't/01ZZZZZZZZ0000000000000000/index']) {
        expect(await store.info(object, call)).toBeUndefined()
        const range = { start: 0, end: 0 }
        await expect(store.read(object, range, call)).rejects.toMatchObject({ kind: 'corrupt', code: 'object-missing' })
        await store.delete(object, call)
      }
    })

    test('a list holds what begins so, over all buckets', async () => {
      const names = [`list/${ulidA}/index`, `list/${ulidA}/chunks/000001`, `list/${ulidB}/index`, 'list/manifest/7']
      for (const object of names) await store.create(object, Buffer.from(object), call)
      await store.create('lis/other', Buffer.from('x'), call)
      const listed = await other.list('list/', call)
      expect(listed.map((info) => info.name).sort()).toEqual([...names].sort())
      expect(listed.every((info) => info.size === info.name.length && info.storedAtMs > 1e12)).toBe(true)
      expect((await other.list(`list/${ulidA}/ch`, call)).map((info) => info.name)).toEqual([names[1]])
      expect(await other.list('list/nothing', call)).toEqual([])
    })

    test('what was deleted is missing, to those who had read it too, and can be made anew', async () => {
      const object = `t/${ulidA}/again`
      await store.create(object, noise(PART_BYTES + 5), call)
      expect((await read(other, object)).length).toBe(PART_BYTES + 5)
      await store.delete(object, call)
      expect(await other.info(object, call)).toBeUndefined()
      await expect(other.read(object, { start: 0, end: 5 }, call)).rejects.toMatchObject({ code: 'object-missing' })
      await other.create(object, noise(PART_BYTES + 5, 9), call)
      expect(await read(store, object)).toEqual(Buffer.from(noise(PART_BYTES + 5, 9)))
    })

    test('damage is told, never read', async () => {
      for (const [kind, bytes] of [
        ['noise', noise(3 * PART_BYTES)],
        ['prose', prose(3 * PART_BYTES)],
      ] as const) {
        const object = `t/${ulidA}/damage/${kind}`
        await store.create(object, bytes, call)
        await ground.damage(object)
        const fresh = await ground.connect()
        const whole = { start: 0, end: bytes.length }
        await expect(fresh.read(object, whole, call)).rejects.toMatchObject({ kind: 'corrupt', code: 'object-damaged' })
        const again = fresh.create(object, bytes, { ...call, readBack: true })
        await expect(again).rejects.toMatchObject({ kind: 'corrupt', code: 'object-damaged' })
        await fresh.close()
      }
    })

    test('a create that heals takes the place of what is damaged, for those who have read it too; sound bytes are never replaced', async () => {
      const heals = { ...call, readBack: true, heals: true }
      for (const [kind, bytes] of [
        ['noise', noise(3 * PART_BYTES)],
        ['prose', prose(3 * PART_BYTES)],
      ] as const) {
        const object = `t/${ulidA}/healed/${kind}`
        await store.create(object, bytes, heals)
        expect(await read(other, object)).toEqual(Buffer.from(bytes))
        await ground.damage(object)
        const fresh = await ground.connect()
        expect(await fresh.create(object, bytes, heals)).toMatchObject({ size: bytes.length, sha256: sha256(bytes) })
        for (const reader of [fresh, store, other]) expect(await read(reader, object)).toEqual(Buffer.from(bytes))
        await expect(fresh.create(object, noise(5), heals)).rejects.toMatchObject({ code: 'object-exists' })
        await fresh.create(object, bytes, heals)
        expect((await fresh.list(object, call)).length).toBe(1)
        await fresh.close()
      }
    })

    test('a sweep leaves what stands', async () => {
      await store.create(`t/${ulidA}/kept`, noise(1_000), call)
      await store.sweep(30 * 60_000, call)
      expect((await read(store, `t/${ulidA}/kept`)).length).toBe(1_000)
    })

    test('names that are none are a bug', async () => {
      for (const object of ['', '/a', 'a//b', 'a/../b', '..', 'a/.', 'ä', 'a b', 'a*', 'x'.repeat(513)]) {
        await expect(store.info(object, call), object).rejects.toMatchObject({ name: 'AssertionError' })
      }
    })

    test('a call that is aborted ends at once', async () => {
      const signal = AbortSignal.abort(new Error('enough'))
      const aborted = store.create('t/aborted', noise(10), { ...call, signal })
      await expect(aborted).rejects.toThrow('enough')
      expect(await store.info('t/aborted', call)).toBeUndefined()
    })
  })
}

export async function read(store: ObjectStore, name: string): Promise<Buffer> {
  const info = await store.info(name, call)
  return Buffer.from(await store.read(name, { start: 0, end: info?.size ?? 0 }, call))
}

export function sha256(bytes: Uint8Array): string {
  return createHash('sha256').update(bytes).digest('hex')
}
