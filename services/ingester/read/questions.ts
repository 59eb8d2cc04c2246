// Questions to owners: each is answered by the owner of its partition, once that may (INGESTER-2).
import { RefusedError, UnavailableError } from '../../../shared/base/errors.ts'
import type { HandlerContext } from '../../../shared/bus/actor.ts'
import {
  type FillRequest,
  type KnownReply,
  type KnownRequest,
  type OwnerRequest,
  type SelectRequest,
  type SeriesRequest,
  WHATEVER_IS_HELD,
} from '../../../shared/contracts/read.ts'
import type { StringTable } from '../../../shared/tsdb/head/string-table.ts'
import type { Owner } from '../log/owner.ts'
import type { Ownership } from '../ownership.ts'
import type { Stores } from '../stores.ts'
import { knownOf, selectFrames, seriesFrames } from './answers.ts'
import { fillFrames } from './fill-frames.ts'
import { hide, type IsShown, reachVersion } from './hiding.ts'

export interface QuestionsDeps {
  readonly ownership: Ownership
  readonly stores: Stores
  readonly strings: StringTable
}

export class Questions {
  readonly #deps: QuestionsDeps

  constructor(deps: QuestionsDeps) {
    this.#deps = deps
  }

  async *select(asked: SelectRequest, context: HandlerContext) {
    const { stores, strings } = this.#deps
    const owner = await this.#ready(asked, context)
    hide(owner, stores.blocks, asked)
    yield* selectFrames(owner, strings, asked, context.signal)
  }

  async *series(asked: SeriesRequest, context: HandlerContext) {
    const { stores, strings } = this.#deps
    const owner = await this.#ready(asked, context)
    hide(owner, stores.blocks, asked)
    yield* seriesFrames(owner, strings, asked)
  }

  /** What is one reply. */
  async reply<Req extends OwnerRequest, Reply>(
    asked: Req,
    context: HandlerContext,
    answer: (owner: Owner, asked: Req, isShown: IsShown) => Reply,
  ): Promise<Reply> {
    const owner = await this.#ready(asked, context)
    return answer(owner, asked, hide(owner, this.#deps.stores.blocks, asked))
  }

  async known(asked: KnownRequest): Promise<KnownReply> {
    return knownOf(this.#deps.ownership.ownerOf(asked.partition), asked)
  }

  async *fill(asked: FillRequest) {
    const { ownership, strings } = this.#deps
    const owner = ownership.ownerOf(asked.partition)
    if (owner.incarnation !== asked.incarnation) {
      const text = `partition ${asked.partition} is followed in another life of its log`
      throw new UnavailableError(owner.end === undefined ? 'err-carillon-not-owner' : 'err-carillon-owner-behind', text)
    }
    yield* fillFrames(owner, strings, asked.segment)
  }

  /** The owner, once it may answer (INGESTER-2): caught up, and past the position that was asked for. */
  async #ready(asked: OwnerRequest, { signal }: HandlerContext): Promise<Owner> {
    const { ownership, stores } = this.#deps
    const owner = ownership.ownerOf(asked.partition)
    if (asked.minSeq > 0 && asked.incarnation !== '' && owner.incarnation !== asked.incarnation) {
      const text = `partition ${asked.partition}: the position belongs to another life of the log`
      throw new UnavailableError('err-carillon-owner-behind', text)
    }
    await reachVersion(stores.blocks, asked)
    if (!owner.isCaughtUp || owner.appliedSeq < asked.minSeq) await owner.waitFor(asked.minSeq, asked.waitMs, signal)
    if (asked.watermark > 0 && owner.state.segment <= asked.watermark) {
      const text = `partition ${asked.partition}: segment ${asked.watermark} is in blocks, and this owner has not seen its end`
      throw new UnavailableError('err-carillon-owner-behind', text) // LOG-18
    }
    if (asked.watermark >= owner.state.droppedUpTo || asked.watermark === WHATEVER_IS_HELD) return owner
    const text = `partition ${asked.partition}: segments up to ${owner.state.droppedUpTo} are in blocks, those above ${asked.watermark} were asked for`
    throw new RefusedError('err-carillon-dropped', text)
  }
}
