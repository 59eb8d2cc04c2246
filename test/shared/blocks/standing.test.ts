// MANIFEST-5: what may be listed, by what the manifest says of sweeps.
import { expect, it } from 'vitest'
import { emptyManifest } from '../../../shared/blocks/codec.ts'
import { assertStanding, SweptError } from '../../../shared/blocks/standing.ts'
import type { Manifest } from '../../../shared/contracts/blocks.ts'

const manifest: Manifest = { ...emptyManifest('acme'), version: 9 }
const retired = [{ ulid: 'A', retiredAtMs: 0, reason: 'garbage' as const }]

/** What is said of blocks A and B, begun by whoever knew version 5. */
function said(of: Manifest): SweptError | undefined {
  try {
    assertStanding(of, ['A', 'B'], 5)
    return undefined
  } catch (error) {
    expect(error).toBeInstanceOf(SweptError)
    return error as SweptError
  }
}

it('MANIFEST-5: where nothing was swept since the files were begun they stand', () => {
  expect(said(manifest)).toBeUndefined()
  expect(said({ ...manifest, sweptAt: 5 })).toBeUndefined()
  expect(said({ ...manifest, retired: [{ ...retired[0]!, ulid: 'C' }] })).toBeUndefined()
})

it('MANIFEST-5: where something was, they are to be looked at, as of the version that was met', () => {
  expect(said({ ...manifest, sweptAt: 6 })).toMatchObject({ version: 9 })
})

it('MANIFEST-5: what stands among the retired is being deleted, and is not listed', () => {
  const error = said({ ...manifest, retired })
  expect(error).toBeInstanceOf(SweptError)
  expect(error!.version).toBeUndefined()
})
