// Connections that say little, and never enough.
import { createConnection, type Socket } from 'node:net'
import type { Attack } from './run-attack.ts'

const CONNECTIONS = 200
const HELD_MS = 3_000
const DRIP_MS = 250
const HEALTHY_MS_MAX = 3_000

function slow(name: string, first: string, drip: string): Attack {
  return {
    name: `slow: ${name}`,
    async run({ port, url }) {
      const sockets: Socket[] = []
      for (let i = 0; i < CONNECTIONS; i++) {
        const socket = createConnection({ port, host: '127.0.0.1' })
        socket.on('error', () => {}) // cut, as it should be
        if (first !== '') socket.write(first)
        sockets.push(socket)
      }
      const dripping = setInterval(() => {
        for (const socket of sockets) if (!socket.destroyed && drip !== '') socket.write(drip)
      }, DRIP_MS)
      try {
        await new Promise((resolve) => setTimeout(resolve, HELD_MS))
        const fromMs = performance.now()
        const { status } = await fetch(`${url}/-/healthy`, { signal: AbortSignal.timeout(HEALTHY_MS_MAX) })
        const tookMs = Math.round(performance.now() - fromMs)
        return status === 200 ? undefined : `health was answered ${status} after ${tookMs} ms`
      } finally {
        clearInterval(dripping)
        for (const socket of sockets) socket.destroy()
      }
    },
  }
}

export const slowAttacks: readonly Attack[] = [
  slow('connections that say nothing', '', ''),
  slow('headers that never end', 'GET / HTTP/1.1\r\nHost: localhost\r\nX: ', 'a'),
  slow('bodies that never end', 'POST /api/v1/push HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100000\r\n\r\n', 'a'),
  slow('answers that nobody reads', 'GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n', ''),
]
