// Pieces of an answer from the one who makes them to the one who sends them, one at a time: nothing is made before the piece before it has left.
import { QueryCancelledError } from '../../../shared/promql/exec/errors.ts'

interface Offer {
  readonly piece: Uint8Array
  readonly taken: () => void
  readonly refused: (error: Error) => void
}

export class Handover {
  private offer: Offer | undefined
  private wake = () => {}
  private isLeft = false

  /** Resolves when the piece has left; rejects when nobody takes pieces any more. */
  readonly give = (piece: Uint8Array): Promise<void> =>
    new Promise((taken, refused) => {
      if (this.isLeft) return refused(new QueryCancelledError())
      this.offer = { piece, taken, refused }
      this.wake()
    })

  /** What is given until `making` has settled. Leaving the loop early refuses the rest. */
  async *pieces(making: Promise<unknown>): AsyncGenerator<Uint8Array, void, undefined> {
    let isMade = false
    const onMade = () => {
      isMade = true
      this.wake()
    }
    making.then(onMade, onMade)
    try {
      for (;;) {
        if (this.offer === undefined && !isMade) await this.woken()
        if (this.offer !== undefined) {
          yield this.offer.piece
          const { taken } = this.offer
          this.offer = undefined
          taken()
        } else if (isMade) return
      }
    } finally {
      this.isLeft = true
      this.offer?.refused(new QueryCancelledError())
    }
  }

  private woken(): Promise<void> {
    return new Promise((resolve) => {
      this.wake = resolve
    })
  }
}
