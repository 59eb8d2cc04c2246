// Blocks made elsewhere come in: start, files, finish, check, as Mimir has it. Files are staged in the object store, part by part; a compactor
// validates them (contracts/uploads.ts). Nothing of it is kept here.
import type { Answer, Exchange, Route } from '../http/exchange.ts'
import type { Load } from '../http/in-flight.ts'
import { UploadRequests, type UploadRequestsDeps } from './upload-requests.ts'

export interface UploadDeps extends UploadRequestsDeps {
  readonly load: Load
}

export function uploadRoutes(deps: UploadDeps): readonly Route[] {
  const { load } = deps
  const requests = new UploadRequests(deps)
  const path = '/api/v1/upload/block/{ulid}'
  const write = { name: 'upload', methods: ['POST'], access: 'write', errors: 'text' } as const
  return [
    { ...write, path: `${path}/start`, answer: (exchange) => loaded(load, exchange, () => requests.start(exchange)) },
    { ...write, path: `${path}/files`, answer: (exchange) => loaded(load, exchange, () => requests.file(exchange)) },
    { ...write, path: `${path}/finish`, answer: (exchange) => requests.finish(exchange) },
    { ...write, methods: ['GET'], path: `${path}/check`, answer: (exchange) => requests.check(exchange) },
  ]
}

async function loaded(load: Load, { tenant }: Exchange, answer: () => Promise<Answer>): Promise<Answer> {
  const lease = load.enter(tenant)
  try {
    return await answer()
  } finally {
    lease.end()
  }
}
