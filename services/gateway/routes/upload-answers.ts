// What a caller is told of an upload.
import { RefusedError } from '../../../shared/base/errors.ts'
import type { UploadRecord } from '../../../shared/contracts/uploads.ts'
import { type Answer, JSON_TYPE } from '../http/exchange.ts'

type Result = 'uploading' | 'validating' | 'complete' | 'failed'

export const resultOf: Readonly<Record<UploadRecord['state'], Result>> = {
  uploading: 'uploading',
  waiting: 'validating',
  validating: 'validating',
  complete: 'complete',
  failed: 'failed',
}

export function uploadAnswer({ state, blocks, error }: Pick<UploadRecord, 'state' | 'blocks' | 'error'>): Answer {
  const body = {
    result: resultOf[state],
    ...(state === 'complete' ? { blocks } : {}),
    ...(error === undefined ? {} : { error: `${error.text} (${error.code})`, error_id: error.code }),
  }
  return { status: 200, headers: { 'Content-Type': JSON_TYPE }, body: JSON.stringify(body) }
}

export function notStarted(ulid: string): RefusedError {
  return new RefusedError('err-carillon-not-found', `there is no upload of block ${ulid}`, { status: 404 })
}
