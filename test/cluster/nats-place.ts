// Where a system's nats-servers are, and who one is there: for connections and for commands.
import { readFileSync } from 'node:fs'

/** Addresses alone, where nobody is asked who he is; or with the file that says it, as the ready line names both. */
export type NatsPlace = string | { readonly nats: string; readonly natsUserFile: string }

/** For whoever connects by himself. */
export function reachOf(place: NatsPlace): { servers: string[]; user?: string; password?: string } {
  const { nats, natsUserFile } = typeof place === 'string' ? { nats: place, natsUserFile: '' } : place
  const servers = nats.split(',')
  if (natsUserFile === '') return { servers }
  const [user = '', password = ''] = readFileSync(natsUserFile, 'utf8').trim().split(':')
  return { servers, user, password }
}

/** For a command line. */
export function natsFlags(place: NatsPlace): string[] {
  if (typeof place === 'string') return ['--nats', place]
  return ['--nats', place.nats, ...(place.natsUserFile === '' ? [] : ['--nats-user-file', place.natsUserFile])]
}
