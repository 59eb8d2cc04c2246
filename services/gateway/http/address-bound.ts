// One address cannot hold all connections: those beyond its part are closed at once.
import type { Socket } from 'node:net'
import { placeOf } from '../auth/failed-logins.ts'
import type { GatewayConfig } from '../config.ts'

const ADDRESS_PART_MAX = 0.75

export class AddressBound {
  readonly #placeMax: number
  readonly #dropped: { inc(): void }
  /** Bounded by connectionsMax. */
  readonly #counts = new Map<string, number>()

  constructor({ addressConnectionsMax, connectionsMax }: GatewayConfig, dropped: { inc(): void }) {
    this.#placeMax = Math.min(addressConnectionsMax, Math.ceil(connectionsMax * ADDRESS_PART_MAX))
    this.#dropped = dropped
  }

  /** Counts a connection in, until it closes; or cuts it. */
  enter(socket: Socket): void {
    const place = placeOf(socket.remoteAddress ?? '')
    const count = this.#counts.get(place) ?? 0
    if (count >= this.#placeMax) {
      this.#dropped.inc()
      socket.destroy()
      return
    }
    this.#counts.set(place, count + 1)
    socket.once('close', () => this.#leave(place))
  }

  #leave(place: string): void {
    const left = this.#counts.get(place)! - 1
    if (left === 0) this.#counts.delete(place)
    else this.#counts.set(place, left)
  }
}
