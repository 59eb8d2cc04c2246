// Who wants to hear of something. What is opened here, and everywhere else, is closed by its `stop`.

/** Something that was opened: nothing comes of it after `stop` has returned. */
export interface Subscription {
  stop(): void
}

/** Those who listen, in the order in which they came. */
export class Listeners<T> {
  readonly #hears = new Set<{ readonly hear: (news: T) => void }>()

  /** Whatever `hear` holds is held until the subscription is stopped. */
  add(hear: (news: T) => void): Subscription {
    const listener = { hear }
    this.#hears.add(listener)
    return { stop: () => void this.#hears.delete(listener) }
  }

  /** Who comes or goes while this tells is told of the next news, or of none. */
  tell(news: T): void {
    for (const listener of [...this.#hears]) if (this.#hears.has(listener)) listener.hear(news)
  }
}
