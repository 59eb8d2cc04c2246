// A download is the blocks of one version of the manifest, whatever the folder held before.
import { createHash } from 'node:crypto'
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { downloadBlocks } from '../../../services/cli/block-download.ts'
import { GatewayClient } from '../../../services/cli/gateway-client.ts'
import type { Progress } from '../../../services/cli/progress.ts'
import { systemClock } from '../../../shared/base/clock.ts'
import { seededRandom } from '../../../shared/base/random.ts'
import { openBlocks } from '../../../shared/blocks/open.ts'
import type { DeleteEntry } from '../../../shared/contracts/blocks.ts'
import { silentLog } from '../../../shared/telemetry/log.ts'
import { readTombstones } from '../../../shared/tsdb/block/tombstones.ts'
import { DAY, type Ground, named, outcome, send, sendable, someBlock, startGround, TENANT } from '../upload-ground.ts'

const silent: Progress = { begin() {}, add() {}, note() {}, end() {} }
let ground: Ground
let folder: string
beforeEach(async () => {
  ground = await startGround()
  await ground.compactor('compactor-1')
  folder = mkdtempSync(join(tmpdir(), 'carillon-download-'))
})
afterEach(async () => {
  await ground.stop()
  rmSync(folder, { recursive: true, force: true })
})

const client = (tenant = TENANT) => new GatewayClient({ gateway: ground.url, tenant, credentialsFile: '' })
const download = (tenant = TENANT) => downloadBlocks(client(tenant), folder, [], silent)
const foldersOf = () =>
  readdirSync(folder)
    .filter((name) => name.length === 26)
    .sort()

async function upload(name: string, tenant = TENANT): Promise<string> {
  const sent = sendable(await someBlock([named(name), named(`${name}_too`)]))
  await send(ground.url, sent, tenant)
  return (await outcome(ground.url, sent.ulid, tenant)).json.blocks[0]
}

const opened = () =>
  openBlocks({
    ...{ bus: ground.hub.connect('other'), objects: ground.objects, clock: systemClock },
    ...{ random: seededRandom(1), log: silentLog },
  })

test('what is not listed any more goes, what is there is kept, and what is not ours is left alone', async () => {
  const [first, second] = [await upload('a'), await upload('b')]
  const foreign = '01ARZ3NDEKTSV4RRFFQ69G5FAV'
  mkdirSync(join(folder, foreign))
  expect((await download()).blocks).toEqual([first, second].sort())
  const index = join(folder, second, 'index')
  writeFileSync(index, 'kept as it is')
  const blocks = await opened()
  await blocks.update(TENANT, (manifest) => ({
    ...manifest,
    blocks: manifest.blocks.filter(({ ulid }) => ulid !== first),
  }))
  const third = await upload('c')
  await download()
  expect(foldersOf()).toEqual([foreign, second, third].sort())
  expect(readFileSync(index, 'utf8')).toBe('kept as it is')
  blocks.close()
})

test('what a deletion hides is under tombstones, and is not when the deletion is taken back', async () => {
  const ulid = await upload('a')
  const blocks = await opened()
  const deletion: DeleteEntry = {
    ...{ id: 'd1', kind: 'series', state: 'active', startMs: DAY + 60_000, endMs: DAY + 120_000, blocks: [ulid] },
    ...{
      selectors: [[{ name: '__name__', operator: '=', value: 'a' }]],
      askedAtMs: 1,
      askedBy: 'me',
      undoUntilMs: DAY * 2,
    },
    positions: {},
  }
  await blocks.update(TENANT, (manifest) => ({ ...manifest, deletes: [deletion] }))
  await download()
  const stones = () => readTombstones(readFileSync(join(folder, ulid, 'tombstones')))
  const meta = () => JSON.parse(readFileSync(join(folder, ulid, 'meta.json'), 'utf8'))
  expect(stones()).toMatchObject([{ startMs: DAY + 60_000, endMs: DAY + 120_000 }])
  expect(meta().stats.numTombstones).toBe(1)
  await blocks.update(TENANT, (manifest) => ({ ...manifest, deletes: [{ ...deletion, state: 'undone', blocks: [] }] }))
  await download()
  expect(stones()).toEqual([])
  expect(meta().stats.numTombstones).toBeUndefined()
  blocks.close()
})

test('credentials come from a file; who may only read may not upload', async () => {
  const file = (name: string, text: string) => {
    writeFileSync(join(folder, name), text)
    return join(folder, name)
  }
  const sha256 = createHash('sha256').update('open-sesame').digest('hex')
  const authFile = file('users.yaml', `tokens: [{ token_sha256: "${sha256}", tenants: [acme], rights: [read] }]`)
  const guarded = await startGround({ authFile })
  try {
    const by = (credentialsFile: string) => new GatewayClient({ gateway: guarded.url, tenant: '', credentialsFile })
    await expect(by('').json('/api/v1/blocks')).rejects.toMatchObject({ status: 401 })
    const reader = by(file('token', 'open-sesame\n'))
    expect(await reader.data('/api/v1/blocks')).toMatchObject({ tenant: 'acme', blocks: [] })
    const start = reader.json(`/api/v1/upload/block/01ARZ3NDEKTSV4RRFFQ69G5FAV/start`, { method: 'POST' })
    await expect(start).rejects.toMatchObject({ status: 403, code: 'err-carillon-forbidden' })
  } finally {
    await guarded.stop()
  }
})

test('a folder is of one tenant', async () => {
  await upload('a')
  await upload('b', 'other')
  await download()
  await expect(download('other')).rejects.toThrow(/holds blocks of tenant "acme": choose another folder/)
})
