// The bytes of what the bucket `blocks` holds (docs/formats/manifest.md). All of it is JSON that a person can read:
//
//   manifest   {"v":2,"crc32c":"1a2b3c4d","manifest":{…}}     the checksum covers the bytes of {…}; v 1 where older versions can read it
//   registry   {"v":1,"tenant":"acme","version":7}
//   flushed    {"v":1,"segment":12,"mark":{…},"digests":{…}}
import { CorruptError, RefusedError, textOf } from '../base/errors.ts'
import { FLUSHED_DIGESTS_MAX, type Flushed, type Manifest } from '../contracts/blocks.ts'
import { crc32c } from '../wire/crc32c.ts'
import { isUnderWay } from './delete-rules.ts'
import { fromFirstFormat } from './first-format.ts'

const FORMAT = 1
/** Of a manifest with deletions that older versions would take for something else. */
const FORMAT_DELETES = 2
const HEAD = /^\{"v":(\d+),"crc32c":"([0-9a-f]{8})","manifest":/
const HEAD_LENGTH_MAX = 64

export function encodeManifest(manifest: Manifest, bytesMax: number): Uint8Array {
  const { isUnsettled: _, ...written } = manifest
  const body = Buffer.from(JSON.stringify(written))
  const format = manifest.deletes.some(isUnderWay) ? FORMAT_DELETES : FORMAT
  const crc = crc32c(body).toString(16).padStart(8, '0')
  const bytes = Buffer.concat([Buffer.from(`{"v":${format},"crc32c":"${crc}","manifest":`), body, Buffer.from('}')])
  if (bytes.length <= bytesMax) return bytes
  const text = `the manifest of tenant "${manifest.tenant}" would take ${bytes.length} bytes with ${manifest.blocks.length} blocks, ${bytesMax} are allowed; let the compactor catch up, or shorten the retention`
  throw new RefusedError('err-carillon-manifest-too-large', text)
}

/** Throws CorruptError `manifest-damaged` for all but a whole manifest of this tenant. */
export function decodeManifest(bytes: Uint8Array, tenant: string): Manifest {
  const damaged = (text: string, cause?: unknown) =>
    new CorruptError('manifest-damaged', `the manifest of tenant "${tenant}": ${text}`, { cause })
  const buffer = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength)
  const head = HEAD.exec(buffer.toString('latin1', 0, HEAD_LENGTH_MAX))
  if (head === null) throw damaged('its head is not that of a manifest')
  const format = Number(head[1])
  if (format !== FORMAT && format !== FORMAT_DELETES)
    throw newer(`the manifest of tenant "${tenant}"`, { format, known: FORMAT_DELETES })
  const body = buffer.subarray(head[0].length, buffer.length - 1)
  if (buffer.at(-1) !== 0x7d || crc32c(body) !== Number.parseInt(head[2]!, 16)) throw damaged('its checksum is wrong')
  let manifest: Manifest
  try {
    manifest = JSON.parse(body.toString()) as Manifest
  } catch (error) {
    throw damaged(`it is not JSON: ${textOf(error)}`, error)
  }
  if (manifest.tenant !== tenant) throw damaged(`it is that of "${manifest.tenant}"`)
  if (!Number.isSafeInteger(manifest.version) || manifest.version < 1) throw damaged(`version ${manifest.version}`)
  return format === FORMAT ? fromFirstFormat(manifest) : manifest
}

/** The manifest before the first: what a change of a tenant without one begins with. */
export function emptyManifest(tenant: string): Manifest {
  return { tenant, version: 0, previous: '', flushed: {}, blocks: [], retired: [], deletes: [], fence: 0 }
}

/** `tenant.{tenant}`: the newest version known to exist; 0 before the first is written. */
export interface Registered {
  readonly tenant: string
  readonly version: number
}

export function encodeRegistered({ tenant, version }: Registered): Uint8Array {
  return Buffer.from(JSON.stringify({ v: FORMAT, tenant, version }))
}

export function decodeRegistered(bytes: Uint8Array, key: string): Registered {
  const { tenant, version } = record(bytes, key)
  if (typeof tenant === 'string' && Number.isSafeInteger(version)) return { tenant, version: version as number }
  throw new CorruptError('registry-damaged', `${key} holds no tenant and version`)
}

export function encodeFlushed({ segment, mark, digests }: Flushed): Uint8Array {
  const kept = Object.entries(digests)
    .sort(([a], [b]) => Number(b) - Number(a))
    .slice(0, FLUSHED_DIGESTS_MAX)
  return Buffer.from(JSON.stringify({ v: FORMAT, segment, mark, digests: Object.fromEntries(kept) }))
}

export function decodeFlushed(bytes: Uint8Array, key: string): Flushed {
  const { segment, mark, digests } = record(bytes, key)
  if (Number.isSafeInteger(segment) && typeof mark === 'object' && typeof digests === 'object') {
    return { segment, mark, digests } as Flushed
  }
  throw new CorruptError('flushed-damaged', `${key} holds no segment, mark and digests`)
}

function record(bytes: Uint8Array, key: string): Record<string, unknown> {
  let value: Record<string, unknown> | null
  try {
    value = JSON.parse(Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength).toString())
  } catch (cause) {
    throw new CorruptError('record-damaged', `${key} is not JSON`, { cause })
  }
  if (value?.['v'] === FORMAT) return value
  if (Number.isSafeInteger(value?.['v'])) throw newer(key, { format: value!['v'], known: FORMAT })
  throw new CorruptError('record-damaged', `${key} is not of format ${FORMAT}`)
}

/** What a newer version has written is left as it is: nothing is made from it, nothing is repaired over it. */
function newer(what: string, { format, known }: { format: unknown; known: number }): CorruptError {
  const text = `${what} is of format ${format}, this version of Carillon knows ${known}: start a newer one`
  return new CorruptError('newer-version', text)
}
