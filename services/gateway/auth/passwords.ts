// Compares passwords with bcrypt hashes in a thread of its own: one comparison is a tenth of a second of a core, and the gateway's loop has none
// to give. What does not fit into the queue is answered at once.
//
// Invariants
//   PASSWORD-1  One comparison runs at a time, WAITING_MAX wait at most, WAITING_OF_ADDRESS_MAX of one address.
//   PASSWORD-2  A thread that ends takes what it had with it (503), and the next comparison starts another.
import { Worker } from 'node:worker_threads'
import { UnavailableError } from '../../../shared/base/errors.ts'
import { placeOf } from './failed-logins.ts'
import type { PasswordReply, PasswordRequest } from './password-worker.ts'

export const WAITING_MAX = 32
export const WAITING_OF_ADDRESS_MAX = 8

export interface Passwords {
  /** Without a hash it is never right, and takes as long. Rejects with UnavailableError when too many wait. */
  isRight(ask: {
    readonly password: string
    readonly hash: string | undefined
    /** The work that every comparison costs, whatever its own hash would. */
    readonly costMax: number
    readonly address: string
  }): Promise<boolean>
  stop(): Promise<void>
}

interface Waiting {
  readonly resolve: (isRight: boolean) => void
  readonly reject: (error: Error) => void
}

export function createPasswords(): Passwords {
  const waiting = new Map<number, Waiting>() // PASSWORD-1
  const ofPlace = new Map<string, number>() // bounded by PASSWORD-1
  let worker: Worker | undefined
  let lastId = 0

  return {
    async isRight({ password, hash, costMax, address }) {
      const place = placeOf(address)
      const placeCount = ofPlace.get(place) ?? 0
      if (waiting.size >= WAITING_MAX || placeCount >= WAITING_OF_ADDRESS_MAX)
        throw new UnavailableError('err-carillon-auth-busy', 'too many passwords are being checked')
      ofPlace.set(place, placeCount + 1)
      try {
        return await compared({ id: ++lastId, password, hash, costMax })
      } finally {
        const left = ofPlace.get(place)! - 1
        if (left === 0) ofPlace.delete(place)
        else ofPlace.set(place, left)
      }
    },
    async stop() {
      await worker?.terminate()
    },
  }

  function compared(ask: PasswordRequest): Promise<boolean> {
    return new Promise((resolve, reject) => {
      waiting.set(ask.id, { resolve, reject })
      worker ??= started()
      worker.postMessage(ask)
    })
  }

  function started(): Worker {
    const made = new Worker(new URL('./password-worker.ts', import.meta.url), { name: 'passwords' })
    made.unref()
    made.on('message', ({ id, isRight }: PasswordReply) => {
      waiting.get(id)?.resolve(isRight)
      waiting.delete(id)
    })
    let reason: unknown
    made.on('error', (error) => {
      reason = error
    })
    made.on('exit', () => {
      worker = undefined // PASSWORD-2
      const error = new UnavailableError('err-carillon-auth-busy', 'the thread that checks passwords ended', {
        cause: reason,
      })
      for (const { reject } of waiting.values()) reject(error)
      waiting.clear()
    })
    return made
  }
}
