// What uploads may cost: how many one tenant has under way, how many bytes they have, and what little bytes may become.
import { expect, onTestFinished, test } from 'vitest'
import type { GatewayConfig } from '../../services/gateway/config.ts'
import { ByteWriter } from '../../shared/tsdb/block/bytes.ts'
import { IndexBuilder } from '../../shared/tsdb/block/index-builder.ts'
import { crc32c } from '../../shared/wire/crc32c.ts'
import { type TestBlock, writeBlock } from './compactor/merge-ground.ts'
import {
  call,
  DAY,
  listedBlocks,
  named,
  outcome,
  send,
  sendable,
  seriesOf,
  someBlock,
  startGround,
  uploadUrl,
} from './upload-ground.ts'

async function started(config: Partial<GatewayConfig> = {}) {
  const ground = await startGround(config)
  onTestFinished(() => ground.stop())
  return ground
}

test('more than --uploads-open-max at once get 429', async () => {
  const ground = await started({ uploadsOpenMax: 2 })
  for (const name of ['a', 'b']) {
    const { ulid, meta } = sendable(await someBlock([named(name)]))
    expect(await call(ground.url, `${uploadUrl(ulid)}/start`, { method: 'POST', body: meta })).toMatchObject({
      status: 200,
    })
  }
  const { ulid, meta } = sendable(await someBlock([named('c')]))
  const third = await call(ground.url, `${uploadUrl(ulid)}/start`, { method: 'POST', body: meta })
  expect(third).toMatchObject({ status: 429, id: 'err-carillon-upload-too-many' })
})

test('many starts at once are not more', async () => {
  const ground = await started({ uploadsOpenMax: 2 })
  const blocks = await Promise.all([...'abcdefgh'].map((name) => someBlock([named(name)])))
  const starts = blocks.map((block) => {
    const { ulid, meta } = sendable(block)
    return call(ground.url, `${uploadUrl(ulid)}/start`, { method: 'POST', body: meta })
  })
  const statuses = (await Promise.all(starts)).map(({ status }) => status)
  expect(statuses.filter((status) => status === 200).length).toBeLessThanOrEqual(2)
  expect(statuses.filter((status) => status === 429).length).toBeGreaterThanOrEqual(6)
})

test('uploads that would have more than --upload-staged-bytes-max together get 429, until one has ended', async () => {
  const [first, second] = [sendable(await someBlock([named('a')])), sendable(await someBlock([named('b')]))]
  const bytes = [...first.files.values()].reduce((sum, file) => sum + file.length, first.meta.length)
  const small = await started({ uploadStagedBytesMax: Math.floor(1.5 * bytes) })
  expect(await send(small.url, first)).toMatchObject({ status: 200 })
  const refused = await send(small.url, second)
  expect(refused).toMatchObject({ status: 429, id: 'err-carillon-upload-too-many' })
  expect(refused.text).toContain('--upload-staged-bytes-max')
  expect(await send(small.url, second, 'other')).toMatchObject({ status: 200 })
  await small.compactor('compactor-1')
  expect((await outcome(small.url, first.ulid)).json.result).toBe('complete')
  expect(await send(small.url, second)).toMatchObject({ status: 200 })
})

test.each(['whole', 'within'] as const)(
  'a chunk of two series (%s) is refused: few bytes are not many',
  async (how) => {
    const ground = await started()
    await ground.compactor('compactor-1')
    const sent = sendable(await sharing(how))
    expect(await send(ground.url, sent)).toMatchObject({ status: 200 })
    const { json } = await outcome(ground.url, sent.ulid)
    expect(json).toMatchObject({ result: 'failed', error_id: 'err-carillon-upload-damaged' })
    expect(json.error).toMatch(/chunks\/000001 at byte \d+: a chunk does not stand behind/)
    expect(await listedBlocks(ground.url)).toEqual([])
  },
)

/** Two series whose chunks share bytes: the same chunk, or one that stands in the last bytes of the other, each with its checksum. */
async function sharing(how: 'whole' | 'within'): Promise<TestBlock> {
  const { meta } = await writeBlock(seriesOf([named('a'), named('b')], { count: 1 }))
  const inner = framed(oneSample())
  const outer = how === 'whole' ? framed(oneSample()) : framed(Buffer.concat([oneSample(), inner]))
  const chunks = Buffer.concat([Buffer.from('85bd40dd01000000', 'hex'), outer])
  const index = new IndexBuilder()
  for (const [name, at] of [
    ['a', 8],
    ['b', how === 'whole' ? 8 : chunks.length - 4 - inner.length],
  ] as const) {
    index.addSeries(named(name), 1)
    index.addChunk(DAY, DAY, at)
  }
  return {
    meta,
    files: new Map([
      ['chunks/000001', chunks],
      ['index', index.finish()],
    ]),
  }
}

function oneSample(): Buffer {
  const writer = new ByteWriter(32)
  writer.bytes(Buffer.from([0, 1]))
  writer.varint(DAY)
  writer.bytes(new Uint8Array(8))
  return Buffer.from(writer.finish())
}

/** A chunk of floats as it stands in its file. */
function framed(chunk: Uint8Array): Buffer {
  const frame = Buffer.from([chunk.length, 1, ...chunk, 0, 0, 0, 0])
  frame.writeUInt32BE(crc32c(frame, 1, frame.length - 4), frame.length - 4)
  return frame
}
