// Row 18: what a newer version of Carillon has written is refused by name before anything is written, purged or freed.
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { flushedKey, manifestKey } from '../../../shared/contracts/blocks.ts'
import { encodeSealed } from '../../../shared/contracts/json.ts'
import { batchSubject, markSubject } from '../../../shared/contracts/log.ts'
import { newerBatch } from '../../shared/wire/newer-batch.ts'
import { FlushGround } from './flush-ground.ts'
import { TENANT } from './log-writer.ts'

const START_MS = 1_700_000_000_000
let ground: FlushGround

beforeEach(async () => {
  ground = new FlushGround()
  await ground.open()
  await ground.mark(1)
  await ground.batch([['a', START_MS, 1]])
})
afterEach(() => ground.close())

const markOf2 = () => encodeSealed({ v: 2, number: 2, writer: 'newer', nonce: 'x' })

describe('row 18', () => {
  test.each([
    ['batch', batchSubject, () => newerBatch(9)],
    ['mark', markSubject, markOf2],
  ])(
    'a %s of a newer version: the owner stops answering, leading, flushing, purging and dropping',
    async (_, subject, payload) => {
      await ground.append(subject(0), payload())
      await ground.mark(2)
      await ground.batch([['a', START_MS + 2, 3]])
      const endSeq = ground.hub.log('log-0')!.state().lastSeq
      await ground.start('i1')
      await ground.until(() => ground.owner('i1').appliedSeq >= endSeq, 'all was read')
      await ground.pass(120_000)
      const owner = ground.owner('i1')
      expect(owner.damages.map(({ kind }) => kind)).toContain('newer-version')
      expect(owner.isCaughtUp).toBe(false)
      await expect(ground.soon(owner.waitFor(1, 100, new AbortController().signal))).rejects.toThrow(
        /start a newer version of Carillon/,
      )
      expect(ground.blocks.flushed(0)).toBe(0)
      expect(ground.blocks.tenants()).toEqual([])
      expect(ground.hub.log('log-0')!.state()).toMatchObject({ firstSeq: 1, lastSeq: endSeq })
      expect(owner.state.droppedUpTo).toBe(0)
    },
  )

  test.each([
    ['manifest', manifestKey(TENANT), '{"v":3,"crc32c":"00000000","manifest":{}}'],
    ['watermark', flushedKey(0), '{"v":2,"segment":9}'],
  ])('a %s of a newer version: nothing is flushed, nothing is purged, it stays as it is', async (_, key, text) => {
    const bucket = await ground.soon(ground.hub.connect('newer').bucket('blocks'))
    await ground.soon(bucket.put(key, Buffer.from(text)))
    await ground.mark(2)
    await ground.start('i1').catch(() => {}) // it may refuse to start
    await ground.pass(60_000)
    expect(Buffer.from((await ground.soon(bucket.get(key)))!.value!).toString()).toBe(text)
    expect(ground.hub.log('log-0')!.state().firstSeq).toBe(1)
    const stored = await ground.soon(ground.objects.list('', { timeoutMs: 1_000 }))
    expect(stored.filter(({ name }) => name.includes('/manifest/'))).toEqual([])
  })
})
