// Blocks come in over the gateway, are validated by a compactor, and are visible all at once or not at all.
import { createHash } from 'node:crypto'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import type { Importer } from '../../services/compactor/worker/import-job.ts'
import { inlineMerger } from '../../services/compactor/worker/inline-worker.ts'
import { sleep, systemClock } from '../../shared/base/clock.ts'
import { seededRandom } from '../../shared/base/random.ts'
import { openBlocks } from '../../shared/blocks/open.ts'
import type { Blocks } from '../../shared/blocks/port.ts'
import type { DeleteEntry } from '../../shared/contracts/blocks.ts'
import { stagedPrefix, UPLOAD_PART_BYTES, UPLOADS_BUCKET, uploadKey } from '../../shared/contracts/uploads.ts'
import { silentLog } from '../../shared/telemetry/log.ts'
import { IndexBuilder } from '../../shared/tsdb/block/index-builder.ts'
import { blockMeta, parseMeta } from '../../shared/tsdb/block/meta.ts'
import { BlockWriter } from '../../shared/tsdb/block/writer.ts'
import { SampleColumns } from '../../shared/tsdb/columns.ts'
import { until } from '../waiting.ts'
import { plainOf, readBlock, type TestBlock, writeBlock } from './compactor/merge-ground.ts'
import {
  call,
  DAY,
  type Ground,
  listedBlocks,
  named,
  outcome,
  type Sent,
  send,
  sendable,
  seriesOf,
  someBlock,
  startGround,
  TENANT,
  uploadUrl,
} from './upload-ground.ts'

const deletion: DeleteEntry = {
  ...{
    id: 'd1',
    kind: 'tenant',
    state: 'active',
    selectors: [],
    startMs: 0,
    endMs: DAY,
    askedAtMs: 1,
    askedBy: 'me',
  },
  ...{ undoUntilMs: DAY * 2, positions: { 0: null }, blocks: [] },
}
const objectCall = { timeoutMs: 5_000 }

describe('an upload', () => {
  let ground: Ground
  beforeEach(async () => {
    ground = await startGround({ uploadBytesMax: 64 * 1024 * 1024 })
  })
  afterEach(() => ground.stop())

  const staged = async (ulid: string) => (await ground.objects.list(stagedPrefix(TENANT, ulid), objectCall)).length

  test('UPLOAD-1: goes from start to complete, is visible only then, and is there as it was', async () => {
    const series = seriesOf([named('a', ['job', 'x']), named('b')])
    const sent = sendable(await writeBlock(series))
    expect(await send(ground.url, sent)).toMatchObject({ status: 200, json: { result: 'validating' } })
    expect(await listedBlocks(ground.url)).toEqual([])
    await ground.compactor('compactor-1')
    const { json } = await outcome(ground.url, sent.ulid)
    expect(json).toEqual({ result: 'complete', blocks: [expect.stringMatching(/^[0-9A-Z]{26}$/)] })
    const listed = await listedBlocks(ground.url)
    expect(listed.map(({ ulid }) => ulid)).toEqual(json.blocks)
    expect(listed[0]!.origin).toMatchObject({ kind: 'upload', source: sent.ulid })
    expect(plainOf(await readBlock(await fetched(json.blocks[0])))).toEqual(plainOf(series))
    expect(await staged(sent.ulid)).toBe(0)
  })

  test('a record that cannot be read is no upload: a start begins anew; one of a newer version is left alone', async () => {
    await ground.compactor('compactor-1')
    const bucket = await ground.hub.connect('hand').bucket(UPLOADS_BUCKET)
    for (const key of ['acme.ghost', 'a_b.c', 'acme.a.b']) await bucket.put(key, Buffer.from('junk'))
    const sent = sendable(await someBlock())
    const key = uploadKey(TENANT, sent.ulid)
    await bucket.put(key, Buffer.from('{"v":1,"state":"complete"}'))
    expect((await call(ground.url, `${uploadUrl(sent.ulid)}/check`)).status).toBe(404)
    expect(await send(ground.url, sent)).toMatchObject({ status: 200 })
    expect((await outcome(ground.url, sent.ulid)).json).toMatchObject({ result: 'complete' })
    const newer = '{"v":2}'
    await bucket.put(key, Buffer.from(newer))
    expect(await send(ground.url, sent)).toMatchObject({ status: 409 })
    expect(Buffer.from((await bucket.get(key))!.value!).toString()).toBe(newer)
  })

  /** A block as it comes back over HTTP. */
  async function fetched(ulid: string): Promise<TestBlock> {
    const bytes = async (file: string, headers = {}) => {
      const response = await fetch(`${ground.url}/api/v1/blocks/${ulid}/files/${file}`, {
        headers: { 'X-Scope-OrgID': TENANT, ...headers },
      })
      return { status: response.status, bytes: new Uint8Array(await response.arrayBuffer()) }
    }
    const meta = parseMeta((await bytes('meta.json')).bytes)
    const files = new Map<string, Uint8Array>()
    for (const { name, size } of meta.carillon!.files) {
      const whole = await bytes(name)
      const part = await bytes(name, { Range: `bytes=3-${size - 2}` })
      expect([whole.status, whole.bytes.length, part.status]).toEqual([200, size, 206])
      expect(Buffer.compare(part.bytes, whole.bytes.subarray(3, size - 1))).toBe(0)
      expect((await bytes(name, { Range: `bytes=${size}-` })).status).toBe(416)
      files.set(name, whole.bytes)
    }
    return { meta, files }
  }

  test('IMPORT-2: with a chunk file as large as others make them is cut into small ones', async () => {
    const files = new Map<string, Uint8Array>()
    const writer = new BlockWriter({
      onFile: (name, bytes) => void files.set(name, bytes),
      chunkFileBytesMax: 512 * 1024 * 1024,
    })
    const random = seededRandom(5)
    for (let which = 0; which < 40; which++) {
      const columns = new SampleColumns(30_000)
      for (let i = 0; i < 30_000; i++) columns.pushBits(DAY + i * 1_000, random.below(2 ** 32), random.below(2 ** 30))
      writer.addSeries(named('noise', ['n', String(which).padStart(2, '0')]), columns.asRun())
    }
    const stats = await writer.finish()
    expect(files.get('chunks/000001')!.length).toBeGreaterThan(2 * UPLOAD_PART_BYTES)
    const sent = sendable({
      meta: blockMeta({ tenant: 'else', stats, origin: { kind: 'upload' }, level: 1 }),
      files,
    })
    await send(ground.url, sent)
    await ground.compactor('compactor-1')
    const { json } = await outcome(ground.url, sent.ulid)
    expect(json).toMatchObject({ result: 'complete' })
    const block = await fetched(json.blocks[0])
    const sizes = [...block.files].filter(([name]) => name.startsWith('chunks/')).map(([, { length }]) => length)
    expect(sizes.length).toBeGreaterThan(8)
    expect(Math.max(...sizes)).toBeLessThanOrEqual(1024 * 1024)
    expect(block.meta.stats.numSamples).toBe(40 * 30_000)
  })

  test('is handed out in one stream, however large a file is; whoever leaves halfway harms nobody', async () => {
    const names = Array.from({ length: 9_000 }, (_, i) =>
      named('wide', ['n', `${i}`.padStart(5, '0')], ['x', `${i} `.repeat(30)]),
    )
    const sent = sendable(await writeBlock(seriesOf(names, { count: 1 })))
    await send(ground.url, sent)
    await ground.compactor('compactor-1')
    const { json } = await outcome(ground.url, sent.ulid)
    const url = `${ground.url}/api/v1/blocks/${json.blocks[0]}/files/index`
    const leaver = new AbortController()
    const left = await fetch(url, { headers: { 'X-Scope-OrgID': TENANT }, signal: leaver.signal })
    await left.body!.getReader().read()
    leaver.abort()
    const block = await fetched(json.blocks[0])
    const { size, sha256 } = block.meta.carillon!.files.find(({ name }) => name === 'index')!
    expect(size).toBeGreaterThan(1024 * 1024)
    expect(createHash('sha256').update(block.files.get('index')!).digest('hex')).toBe(sha256)
  })

  test('comes once: a second start is told what the first became', async () => {
    await ground.compactor('compactor-1')
    const sent = sendable(await someBlock())
    await send(ground.url, sent)
    const { json } = await outcome(ground.url, sent.ulid)
    const again = await send(ground.url, sent)
    expect(again).toMatchObject({ status: 409, id: 'err-carillon-upload-exists' })
    expect(again.text).toContain(json.blocks[0])
    expect(await listedBlocks(ground.url)).toHaveLength(1)
  })

  test('with replace=true takes the place of what is listed, hidden by what hid that', async () => {
    await ground.compactor('compactor-1')
    const sent = sendable(await someBlock())
    await send(ground.url, sent)
    const first = (await outcome(ground.url, sent.ulid)).json.blocks as string[]
    const blocks = await opened()
    const entry: DeleteEntry = { ...deletion, kind: 'series', selectors: [[]], blocks: first }
    await blocks.update(TENANT, (manifest) => ({ ...manifest, deletes: [entry] }))
    const url = uploadUrl(sent.ulid)
    await call(ground.url, `${url}/start?replace=true`, { method: 'POST', body: sent.meta })
    for (const [name, body] of sent.files) await call(ground.url, `${url}/files?path=${name}`, { method: 'POST', body })
    await call(ground.url, `${url}/finish`, { method: 'POST' })
    const { json } = await outcome(ground.url, sent.ulid)
    expect(json.blocks).not.toEqual(first)
    const { manifest } = await blocks.update(TENANT, () => undefined)
    expect(manifest.blocks.map(({ ulid }) => ulid)).toEqual(json.blocks)
    expect(manifest.retired).toMatchObject([{ ulid: first[0], reason: 'replaced' }])
    expect(manifest.deletes[0]!.blocks).toEqual(json.blocks)
    blocks.close()
  })

  test('goes on where it broke off, in pieces too', async () => {
    await ground.compactor('compactor-1')
    const sent = sendable(await someBlock())
    const [first, ...rest] = [...sent.files]
    const url = uploadUrl(sent.ulid)
    await call(ground.url, `${url}/start`, { method: 'POST', body: sent.meta })
    await call(ground.url, `${url}/files?path=${first![0]}`, { method: 'POST', body: first![1] })
    expect(await call(ground.url, `${url}/start`, { method: 'POST', body: sent.meta })).toMatchObject({ status: 200 })
    for (const [name, body] of rest)
      await call(ground.url, `${url}/files?path=${name}&offset=0`, { method: 'POST', body })
    await call(ground.url, `${url}/finish`, { method: 'POST' })
    expect((await outcome(ground.url, sent.ulid)).json.result).toBe('complete')
  })

  test('of one tenant is not there for another', async () => {
    await ground.compactor('compactor-1')
    const sent = sendable(await someBlock())
    await call(ground.url, `${uploadUrl(sent.ulid)}/start`, { method: 'POST', body: sent.meta })
    for (const step of ['files?path=index', 'finish'])
      expect(
        await call(ground.url, `${uploadUrl(sent.ulid)}/${step}`, { method: 'POST', body: 'x', tenant: 'other' }),
      ).toMatchObject({ status: 404 })
    await send(ground.url, sent)
    const { json } = await outcome(ground.url, sent.ulid)
    expect(await call(ground.url, `/api/v1/blocks/${json.blocks[0]}/files/index`, { tenant: 'other' })).toMatchObject({
      status: 404,
    })
    expect(await listedBlocks(ground.url, 'other')).toEqual([])
  })

  test('UPLOAD-3: that nobody finishes is forgotten with all its files; so is the outcome of one', async () => {
    const sent = sendable(await someBlock())
    await call(ground.url, `${uploadUrl(sent.ulid)}/start`, { method: 'POST', body: sent.meta })
    await call(ground.url, `${uploadUrl(sent.ulid)}/files?path=index`, {
      method: 'POST',
      body: sent.files.get('index')!,
    })
    expect(await staged(sent.ulid)).toBeGreaterThan(1)
    await ground.compactor('compactor-1', { uploadKeepMs: 300 })
    await until('nothing is staged any more', async () => (await staged(sent.ulid)) === 0)
    await until('it is forgotten', async () => (await call(ground.url, `${uploadUrl(sent.ulid)}/check`)).status === 404)
    expect(await listedBlocks(ground.url)).toEqual([])
  })

  test('VALIDATE-1, VALIDATE-3: whose validator falls silent is taken over, and listed once', async () => {
    const sent = sendable(await someBlock())
    await send(ground.url, sent)
    const reached = Promise.withResolvers<void>()
    const gate = Promise.withResolvers<void>()
    const slow: Importer = {
      async import(job, io) {
        reached.resolve()
        await gate.promise
        return inlineMerger.import(job, io, new AbortController().signal)
      },
    }
    await ground.compactor('compactor-1', {}, slow)
    await reached.promise
    ground.hub.pause('compactor-1')
    await ground.compactor('compactor-2')
    const { json } = await outcome(ground.url, sent.ulid)
    expect(json.result).toBe('complete')
    ground.hub.resume('compactor-1')
    gate.resolve()
    await sleep(systemClock, 500)
    expect((await listedBlocks(ground.url)).map(({ ulid }) => ulid)).toEqual(json.blocks)
    expect((await outcome(ground.url, sent.ulid)).json).toEqual(json)
  })

  test('VALIDATE-4: whose validation does not end is refused by name, and another tenant has its turn', async () => {
    const endless: Importer = {
      import: (job, io, signal) =>
        job.ulid === slow.ulid
          ? new Promise((_, reject) => signal.addEventListener('abort', () => reject(signal.reason)))
          : inlineMerger.import(job, io, signal),
    }
    const slow = sendable(await someBlock())
    const other = sendable(await someBlock([named('other')]))
    await send(ground.url, slow)
    await send(ground.url, other, 'other')
    await ground.compactor('compactor-1', { uploadValidateMs: 1_500, uploadsValidatingMax: 1 }, endless)
    const { json } = await outcome(ground.url, slow.ulid)
    expect(json).toMatchObject({ result: 'failed', error_id: 'err-carillon-upload-slow' })
    expect(json.error).toContain('--upload-validate')
    expect(await listedBlocks(ground.url)).toEqual([])
    await until('its files are gone', async () => (await staged(slow.ulid)) === 0)
    expect((await outcome(ground.url, other.ulid, 'other')).json.result).toBe('complete')
  }, 20_000)

  test('to a tenant that is being deleted is refused', async () => {
    const blocks = await opened()
    await blocks.update(TENANT, (manifest) => ({ ...manifest, deletes: [deletion] }))
    await ground.compactor('compactor-1')
    const sent = sendable(await someBlock())
    await send(ground.url, sent)
    const { json } = await outcome(ground.url, sent.ulid)
    expect(json).toMatchObject({ result: 'failed', error_id: 'err-carillon-upload-tenant-deleted' })
    blocks.close()
  })

  /** The manifests, from another process. */
  function opened(): Promise<Blocks> {
    const bus = ground.hub.connect('other')
    return openBlocks({
      ...{ bus, objects: ground.objects, clock: systemClock },
      random: seededRandom(1),
      log: silentLog,
    })
  }
})

// ---- what is refused ----

const flipped = (bytes: Uint8Array, at: number): Uint8Array => {
  const copy = Uint8Array.from(bytes)
  copy[at]! ^= 0x10
  return copy
}

const changed = (sent: Sent, name: string, change: (bytes: Uint8Array) => Uint8Array): Sent => ({
  ...sent,
  files: new Map(sent.files).set(name, change(sent.files.get(name)!)),
})

/** Two chunks of one series that share a time. */
async function overlapping(): Promise<TestBlock> {
  const series = seriesOf([named('a', ['n', '1'])], { count: 100 })
  const later = seriesOf([named('a', ['n', '2'])], { start: DAY + 99 * 60_000, count: 100 })
  const block = await writeBlock(new Map([...series, ...later]))
  const chunks = block.files.get('chunks/000001')!
  const first = 8
  const length = chunks[first]! < 0x80 ? [chunks[first]!, 1] : [(chunks[first]! & 0x7f) | (chunks[first + 1]! << 7), 2]
  const second = first + length[1]! + 1 + length[0]! + 4
  const index = new IndexBuilder()
  index.addSeries(named('a'), 2)
  index.addChunk(DAY, DAY + 99 * 60_000, first)
  index.addChunk(DAY + 99 * 60_000, DAY + 198 * 60_000, second)
  const stats = { ...block.meta.stats, numSeries: 1 }
  return { meta: { ...block.meta, stats }, files: new Map(block.files).set('index', index.finish()) }
}

const sizeless = (sent: Sent): Sent => ({
  ...sent,
  meta: Buffer.from(JSON.stringify({ ...JSON.parse(String(sent.meta)), thanos: {} })),
})
const inPlan = (name: string, size: number) => (meta: Record<string, unknown>) => ({
  ...meta,
  thanos: { files: [...(meta['thanos'] as { files: object[] }).files, { rel_path: name, size_bytes: size }] },
})

describe('a block is refused', () => {
  let ground: Ground
  beforeEach(async () => {
    ground = await startGround({ uploadBytesMax: 64 * 1024 * 1024 })
    await ground.compactor('compactor-1')
  })
  afterEach(() => ground.stop())

  test.each<[what: string, make: () => Promise<Sent>, status: number, id: string]>([
    [
      'another ULID in meta.json',
      async () => ({ ...sendable(await someBlock()), ulid: '01ARZ3NDEKTSV4RRFFQ69G5FAV' }),
      400,
      'upload-ulid',
    ],
    ['no ULID', async () => ({ ...sendable(await someBlock()), ulid: 'I-am-none' }), 400, 'upload-ulid'],
    ['no JSON', async () => ({ ...sendable(await someBlock()), meta: Buffer.from('{') }), 400, 'upload-meta'],
    ['version 2', async () => sendable(await someBlock(), (meta) => ({ ...meta, version: 2 })), 400, 'upload-meta'],
    ['no list of files', async () => sizeless(sendable(await someBlock())), 400, 'upload-files'],
    ['a file outside', async () => sendable(await someBlock(), inPlan('../../secret', 3)), 400, 'upload-files'],
    ['a file of no size', async () => sendable(await someBlock(), inPlan('chunks/000009', 0)), 400, 'upload-files'],
    [
      'too many bytes',
      async () => sendable(await someBlock(), inPlan('chunks/000009', 2 ** 30)),
      413,
      'upload-too-large',
    ],
    [
      'a shorter file than listed',
      async () => changed(sendable(await someBlock()), 'index', (bytes) => bytes.subarray(1)),
      400,
      'upload-size',
    ],
  ])('at the door: %s', async (_, make, status, id) => {
    expect(await send(ground.url, await make())).toMatchObject({ status, id: `err-carillon-${id}` })
    expect(await listedBlocks(ground.url)).toEqual([])
  })

  test.each<[what: string, make: () => Promise<Sent>, id: string, text: RegExp]>([
    [
      'a file that never came',
      async () => sendable(await someBlock(), inPlan('chunks/000002', 10)),
      'upload-incomplete',
      /chunks\/000002 \(0 of 10/,
    ],
    [
      'a flipped bit in a chunk',
      async () => changed(sendable(await someBlock()), 'chunks/000001', (bytes) => flipped(bytes, 40)),
      'upload-damaged',
      /chunks\/000001 at byte \d+/,
    ],
    [
      'a flipped bit in the index',
      async () => changed(sendable(await someBlock()), 'index', (bytes) => flipped(bytes, 30)),
      'upload-damaged',
      /index at byte \d+/,
    ],
    ['a cut index', async () => cut(sendable(await someBlock()), 'index'), 'upload-damaged', /index at byte/],
    [
      'a cut chunk file',
      async () => cut(sendable(await someBlock()), 'chunks/000001'),
      'upload-damaged',
      /chunks\/000001/,
    ],
    [
      'counts that are wrong',
      async () =>
        sendable(await someBlock(), (meta) => ({ ...meta, stats: { ...(meta['stats'] as object), numSamples: 7 } })),
      'upload-damaged',
      /numSamples is 7/,
    ],
    [
      'times that are wrong',
      async () => sendable(await someBlock(), (meta) => ({ ...meta, maxTime: DAY + 60_000 })),
      'upload-damaged',
      /lies outside the times of meta.json/,
    ],
    [
      'broken tombstones',
      async () => withFile(sendable(await someBlock()), 'tombstones', Buffer.from('not tombstones')),
      'upload-damaged',
      /tombstones/,
    ],
    [
      'chunks that overlap',
      async () => sendable(await overlapping()),
      'upload-out-of-order',
      /overlaps the one before/,
    ],
    [
      'samples of tomorrow',
      async () => sendable(await someBlock(undefined, { start: Date.now() + 86_400_000 })),
      'upload-times',
      /too far ahead/,
    ],
    ['no samples', async () => sendable(await writeBlock(new Map())), 'upload-empty', /no samples/],
    [
      'a series without a name',
      async () => sendable(await someBlock([['job', 'x']])),
      'missing-metric-name',
      /missing metric name/,
    ],
    [
      'a label that is too long',
      async () => sendable(await someBlock([named('a', ['x', 'y'.repeat(3000)])])),
      'label-value-too-long',
      /label value too long/,
    ],
  ])('after a complete look: %s', async (_, make, id, text) => {
    const sent = await make()
    expect(await send(ground.url, sent)).toMatchObject({ status: 200 })
    const { json } = await outcome(ground.url, sent.ulid)
    expect(json).toMatchObject({ result: 'failed', error_id: `err-carillon-${id}` })
    expect(json.error).toMatch(text)
    expect(json.error).toContain(`err-carillon-${id}`)
    expect(await listedBlocks(ground.url)).toEqual([])
    expect(await ground.objects.list(stagedPrefix(TENANT, sent.ulid), objectCall)).toEqual([])
  })

  /** Shorter, and listed so. */
  function cut(sent: Sent, name: string): Sent {
    return withFile(sent, name, sent.files.get(name)!.subarray(0, -60))
  }

  function withFile(sent: Sent, name: string, bytes: Uint8Array): Sent {
    const files = new Map(sent.files).set(name, bytes)
    const listed = [...files].map(([rel_path, { length }]) => ({ rel_path, size_bytes: length }))
    const meta = Buffer.from(JSON.stringify({ ...JSON.parse(String(sent.meta)), thanos: { files: listed } }))
    return { ...sent, files, meta }
  }
})
