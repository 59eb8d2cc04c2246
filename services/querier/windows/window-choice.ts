// Whether a query may be answered from windows (docs/formats/downsampled.md): only tenants whose policy asks for them have any.
import { CarillonError } from '../../../shared/base/errors.ts'
import { windowFor } from '../../../shared/blocks/downsampled.ts'
import type { SeriesSource } from '../../../shared/promql/source.ts'
import type { Views } from '../read/snapshots.ts'

/** How the source of a query chooses windows; undefined: it has none. `lengthMaxMs`: what the asker set; absent: by the step; 0: none. */
export async function windowChoice(
  views: Pick<Views, 'take'>,
  { tenant, signal }: { tenant: string; signal: AbortSignal },
  lengthMaxMs: number | undefined,
): Promise<SeriesSource['windowFor']> {
  if (lengthMaxMs === 0) return undefined
  try {
    const { blocks } = await views.take(tenant, 0, signal)
    if (!blocks.some(({ resolutionMs }) => resolutionMs > 0)) return undefined
    return (question) => windowFor(question, lengthMaxMs)
  } catch (error) {
    if (error instanceof CarillonError && !signal.aborted) return undefined // reading blocks will say so
    throw error
  }
}
