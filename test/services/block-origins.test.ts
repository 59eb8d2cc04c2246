// What tells that a block may not come in as it is, or must become another one, beside its samples: labels of all of it, and its age.
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { labelsKey } from '../../shared/model/labels.ts'
import { parseMeta } from '../../shared/tsdb/block/meta.ts'
import { eventually, WAIT_MS } from '../waiting.ts'
import { readBlock, type TestBlock, writeBlock } from './compactor/merge-ground.ts'
import {
  call,
  DAY,
  type Ground,
  listedBlocks,
  named,
  outcome,
  send,
  sendable,
  seriesOf,
  someBlock,
  startGround,
  TENANT,
  uploadUrl,
} from './upload-ground.ts'

describe('an upload', () => {
  let ground: Ground
  beforeEach(async () => {
    ground = await startGround()
  })
  afterEach(() => ground.stop())

  test("blocks of two clusters, told apart by Thanos' external labels alone, stay two series", async () => {
    await ground.compactor('compactor-1')
    const blocks = await Promise.all(
      ['eu', 'us'].map(async (cluster, i) => {
        const start = DAY + i * 30_000
        const block = await writeBlock(seriesOf([named('orders_total', ['job', 'shop'])], { start, count: 20 }), i + 1)
        return sendable(block, (meta) => ({ ...meta, thanos: { ...(meta['thanos'] as object), labels: { cluster } } }))
      }),
    )
    const keys: string[] = []
    for (const sent of blocks) {
      expect(await send(ground.url, sent)).toMatchObject({ status: 200 })
      const { json } = await outcome(ground.url, sent.ulid)
      expect(json).toMatchObject({ result: 'complete' })
      keys.push(...(await readBlock(await fetched(json.blocks[0]))).keys())
    }
    const wanted = (cluster: string) => labelsKey(named('orders_total', ['cluster', cluster], ['job', 'shop']))
    expect(keys).toEqual([wanted('eu'), wanted('us')])
  })

  test('a block that is older than what the tenant keeps is refused: by a compactor, and at the start where that is known', async () => {
    const started = Date.now()
    const sent = sendable(await someBlock())
    expect(await send(ground.url, sent)).toMatchObject({ status: 200 })
    await ground.compactor('compactor-1', { keepMs: 3 * 86_400_000 })
    const failed = { result: 'failed', error_id: 'err-carillon-upload-too-old' }
    expect((await outcome(ground.url, sent.ulid)).json).toMatchObject(failed)
    expect(await listedBlocks(ground.url)).toEqual([])
    const again = await eventually('the compactor has told', WAIT_MS, async () => {
      const answer = await call(ground.url, `${uploadUrl(sent.ulid)}/start`, { method: 'POST', body: sent.meta })
      return answer.status === 400 ? answer : undefined
    })
    expect(again).toMatchObject({ id: 'err-carillon-upload-too-old' })
    expect(again.text).toContain(`the tenant keeps samples from ${new Date(started).getUTCFullYear()}`)
    const newer = sendable(await someBlock(undefined, { start: started - 2 * 86_400_000 }))
    expect(await send(ground.url, newer)).toMatchObject({ status: 200 })
    expect((await outcome(ground.url, newer.ulid)).json).toMatchObject({ result: 'complete' })
  })

  async function fetched(ulid: string): Promise<TestBlock> {
    const headers = { 'X-Scope-OrgID': TENANT }
    const bytes = async (file: string) =>
      new Uint8Array(
        await (await fetch(`${ground.url}/api/v1/blocks/${ulid}/files/${file}`, { headers })).arrayBuffer(),
      )
    const meta = parseMeta(await bytes('meta.json'))
    const files = new Map<string, Uint8Array>()
    for (const { name } of meta.carillon!.files) files.set(name, await bytes(name))
    return { meta, files }
  }
})
