// The thread of passwords.ts.
import { parentPort } from 'node:worker_threads'
import { compareSync, hashSync } from 'bcryptjs'
import { costOf, paddingOf } from './bcrypt-cost.ts'

export interface PasswordRequest {
  readonly id: number
  readonly password: string
  readonly hash: string | undefined
  readonly costMax: number
}

export interface PasswordReply {
  readonly id: number
  readonly isRight: boolean
}

parentPort?.on('message', ({ id, password, hash, costMax }: PasswordRequest) => {
  const isRight = hash !== undefined && compareSync(password, hash)
  for (const cost of paddingOf(hash === undefined ? undefined : costOf(hash), costMax)) hashSync(password, cost)
  parentPort?.postMessage({ id, isRight } satisfies PasswordReply)
})
