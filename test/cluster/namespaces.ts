// A network of our own for tests: nodes are network namespaces, joined by a bridge in one more, each by a cable (a veth pair) that can be
// pulled. Nothing is said to either end then, as with a real one. The test itself has a cable, too.
//
// Names carry a random part, and `remove` takes all of it away. Needs root and `ip`; `whyNoNamespaces` says what lacks.
import { execFileSync } from 'node:child_process'
import { randomInt } from 'node:crypto'

const HUB = 'hub'
const OWN_HOST = 254

export interface Node {
  readonly name: string
  readonly address: string
  /** Put before a command, it runs there. */
  readonly within: readonly string[]
  /** Pulls the cable. */
  cut(): void
  heal(): void
}

export interface Network {
  node(name: string): Node
  /** After everything that runs in it has ended. */
  remove(): void
}

export function createNetwork(): Network {
  const tag = `cln${randomInt(0x10000).toString(16).padStart(4, '0')}`
  const subnet = `198.18.${randomInt(256)}` // kept for trying out networks: nobody's
  const made: string[] = []
  const spaceOf = (name: string) => `${tag}-${name}`
  const hub = spaceOf(HUB)
  const onHub = (...args: string[]) => ip('-n', hub, ...args)

  function addSpace(name: string): void {
    ip('netns', 'add', spaceOf(name))
    made.push(spaceOf(name))
    ip('-n', spaceOf(name), 'link', 'set', 'lo', 'up')
  }

  /** One end of the cable in the hub's bridge, the other with an address. */
  function addCable(port: string, end: { link: string; host: number; space?: string }): void {
    const place = end.space === undefined ? [] : ['-n', end.space]
    ip(...place, 'link', 'add', end.link, 'type', 'veth', 'peer', 'name', port, 'netns', hub)
    onHub('link', 'set', port, 'master', 'bridge', 'up')
    ip(...place, 'addr', 'add', `${subnet}.${end.host}/24`, 'dev', end.link)
    ip(...place, 'link', 'set', end.link, 'up')
  }

  function remove(): void {
    for (const space of made.splice(0).reverse()) ip('netns', 'delete', space)
  }

  try {
    addSpace(HUB)
    onHub('link', 'add', 'bridge', 'type', 'bridge')
    onHub('link', 'set', 'bridge', 'up')
    addCable('p-test', { link: tag, host: OWN_HOST })
  } catch (error) {
    remove()
    throw error
  }
  return {
    node(name) {
      const host = made.length
      addSpace(name)
      addCable(`p-${host}`, { link: 'eth0', host, space: spaceOf(name) })
      return {
        name,
        address: `${subnet}.${host}`,
        within: ['ip', 'netns', 'exec', spaceOf(name)],
        cut: () => onHub('link', 'set', `p-${host}`, 'down'),
        heal: () => onHub('link', 'set', `p-${host}`, 'up'),
      }
    },
    remove,
  }
}

/** What a network of our own lacks here; undefined when nothing does. */
export function whyNoNamespaces(): string | undefined {
  if (process.getuid?.() !== 0) return 'only root may make network namespaces'
  try {
    const network = createNetwork()
    try {
      network.node('try')
    } finally {
      network.remove()
    }
    return undefined
  } catch (error) {
    return `network namespaces cannot be made: ${String(error).split('\n')[0]}`
  }
}

function ip(...args: string[]): void {
  execFileSync('ip', args, {
    stdio: ['ignore', 'ignore', 'pipe'],
    env: { ...process.env, PATH: `${process.env['PATH']}:/usr/sbin:/sbin` },
  })
}
