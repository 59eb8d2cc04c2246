// Row 18: an object whose layout a newer version of Carillon wrote is refused by name, and left as it is.
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import { systemClock } from '../../../shared/base/clock.ts'
import { directoryObjects } from '../../../shared/objects/directory-objects.ts'
import { crc32c } from '../../../shared/wire/crc32c.ts'

const call = { timeoutMs: 5_000 }

test('row 18: an object of a newer version is refused by every call, hides no other in a list, and stays', async () => {
  const folder = mkdtempSync(join(tmpdir(), 'carillon-newer-'))
  try {
    const store = await directoryObjects(folder, { clock: systemClock })
    const bytes = new Uint8Array(1_000).fill(7)
    for (const name of ['t/new', 't/old']) await store.create(name, bytes, call)
    const file = join(folder, 't/new@')
    writeFileSync(file, withVersion(readFileSync(file), 2))
    const before = readFileSync(file)
    const attempts = [
      () => store.info('t/new', call),
      () => store.read('t/new', { start: 0, end: 1 }, call),
      () => store.create('t/new', bytes, call),
    ]
    for (const attempt of attempts)
      await expect(attempt()).rejects.toMatchObject({ kind: 'corrupt', code: 'newer-version' })
    const listed = await store.list('t/', call)
    expect(listed.find(({ name }) => name === 't/new')?.damage).toMatch(/format 2.*start a newer one/)
    expect(listed.find(({ name }) => name === 't/old')).toMatchObject({ size: 1_000 })
    expect(readFileSync(file).equals(before)).toBe(true)
  } finally {
    rmSync(folder, { recursive: true, force: true })
  }
})

function withVersion(bytes: Buffer, v: number): Buffer {
  const length = bytes.readUInt32BE(bytes.length - 12)
  const parts = bytes.subarray(0, bytes.length - 12 - length)
  const layout = JSON.parse(bytes.subarray(parts.length, parts.length + length).toString())
  const text = Buffer.from(JSON.stringify({ ...layout, v }))
  const foot = Buffer.alloc(12)
  foot.writeUInt32BE(text.length, 0)
  foot.writeUInt32BE(crc32c(text), 4)
  foot.write('CLNO', 8)
  return Buffer.concat([parts, text, foot])
}
