// Whether a query may be answered from windows (docs/formats/downsampled.md): only tenants whose policy asks for them have any.
import { CarillonError } from '../../shared/base/errors.ts'
import { windowFor } from '../../shared/blocks/downsampled.ts'
import type { SeriesSource } from '../../shared/promql/source.ts'
import type { Views } from './views.ts'

/** How the source of a query chooses windows; undefined: it has none. `lengthMaxMs`: what the asker set; absent: by the step; 0: none. */
export function windowChoice(
  views: Pick<Views, 'opened'>,
  tenant: string,
  lengthMaxMs: number | undefined,
): SeriesSource['windowFor'] {
  if (lengthMaxMs === 0 || !hasWindows(views, tenant)) return undefined
  return (question) => windowFor(question, lengthMaxMs)
}

function hasWindows(views: Pick<Views, 'opened'>, tenant: string): boolean {
  try {
    return (
      views
        .opened()
        .manifest(tenant)
        ?.manifest.blocks.some(({ resolutionMs }) => resolutionMs > 0) === true
    )
  } catch (error) {
    if (error instanceof CarillonError) return false // reading blocks will say so
    throw error
  }
}
