// Finds the route of a path. Segments are compared raw: nothing is resolved, `..` and escapes match nothing but themselves. Doubled slashes
// are one: a base URL that ends in a slash, and a path that begins with one.
import type { Route } from './exchange.ts'

export interface Found {
  /** Those of the path; the method decides between them. */
  readonly routes: readonly Route[]
  readonly params: Readonly<Record<string, string>>
}

export interface Router {
  find(path: string): Found | undefined
}

interface Node {
  readonly children: Map<string, Node>
  any?: { readonly name: string; readonly node: Node }
  readonly routes: Route[]
}

export function createRouter(routes: readonly Route[]): Router {
  const root = newNode()
  for (const route of routes) {
    let node = root
    for (const segment of route.path.slice(1).split('/')) node = childFor(node, segment)
    node.routes.push(route)
  }
  const deepest = Math.max(...routes.map((route) => route.path.split('/').length))

  return {
    find(path) {
      if (!path.startsWith('/')) return undefined
      const segments = path
        .replace(/\/{2,}/g, '/')
        .slice(1)
        .split('/', deepest)
      const params: Record<string, string> = {}
      let node = root
      for (const segment of segments) {
        const child = node.children.get(segment)
        if (child !== undefined) node = child
        else if (node.any !== undefined && segment !== '') {
          const value = decoded(segment)
          if (value === undefined) return undefined
          params[node.any.name] = value
          node = node.any.node
        } else return undefined
      }
      return node.routes.length > 0 ? { routes: node.routes, params } : undefined
    },
  }
}

function newNode(): Node {
  return { children: new Map(), routes: [] }
}

function childFor(node: Node, segment: string): Node {
  if (segment.startsWith('{')) {
    node.any ??= { name: segment.slice(1, -1), node: newNode() }
    return node.any.node
  }
  const child = node.children.get(segment) ?? newNode()
  node.children.set(segment, child)
  return child
}

function decoded(segment: string): string | undefined {
  try {
    return decodeURIComponent(segment)
  } catch {
    return undefined // not UTF-8, or half an escape: no such path
  }
}
