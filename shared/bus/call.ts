// One question at work in an actor: its context, its deadline, and the ways in which it may end early.
import type { HandlerContext } from './actor.ts'
import { type BusHeaders, signHeader } from './port.ts'

export interface Sign {
  readonly headers: BusHeaders
  readonly replyTo?: string
}

const AT_WORK: Sign = { headers: { [signHeader]: 'at work' } }

export class Call implements HandlerContext {
  readonly name: string
  readonly params: Readonly<Record<string, string>>
  readonly headers: BusHeaders
  readonly requestId: string | undefined
  readonly deadline: number
  readonly startedMs: number
  readonly cancelToken: string | undefined
  /** Where the asker wants to hear that this is at work, how often, and when it last did. */
  readonly signs: { readonly to: string; readonly everyMs: number; lastMs: number } | undefined
  /** What a sign says: that this is at work, or where the asker is waited for: it may not have heard that. */
  sign: Sign = AT_WORK
  #aborting: AbortController | undefined
  #reason: Error | undefined

  constructor(
    fields: Pick<
      Call,
      'name' | 'params' | 'headers' | 'requestId' | 'deadline' | 'startedMs' | 'cancelToken' | 'signs'
    >,
  ) {
    this.name = fields.name
    this.params = fields.params
    this.headers = fields.headers
    this.requestId = fields.requestId
    this.deadline = fields.deadline
    this.startedMs = fields.startedMs
    this.cancelToken = fields.cancelToken
    this.signs = fields.signs
  }

  /** Made when somebody asks for it: most handlers never do. */
  get signal(): AbortSignal {
    if (this.#aborting === undefined) {
      this.#aborting = new AbortController()
      if (this.#reason !== undefined) this.#aborting.abort(this.#reason)
    }
    return this.#aborting.signal
  }

  get isAborted(): boolean {
    return this.#reason !== undefined
  }

  abort(reason: Error): void {
    if (this.#reason !== undefined) return
    this.#reason = reason
    this.#aborting?.abort(reason)
  }
}
