// What lies in JetStream for an object, seen past the store.
import type { NatsConnection } from '@nats-io/transport-node'
import { bucketOf } from '../../../shared/objects/names.ts'

export interface AtRest {
  readonly stream: string
  readonly nuid: string
  readonly seqs: readonly number[]
}

export const infoSubject = (name: string): string => {
  const text = Buffer.from(name).toString('base64').replaceAll('+', '-').replaceAll('/', '_')
  return `$O.cln-blocks-${bucketOf(name)}.M.${text}`
}

export async function ofObject(nc: NatsConnection, name: string): Promise<AtRest> {
  const bucket = `cln-blocks-${bucketOf(name)}`
  const reply = await nc.request(
    `$JS.API.DIRECT.GET.OBJ_${bucket}`,
    JSON.stringify({ last_by_subj: infoSubject(name) }),
  )
  const info = reply.json<{ nuid: string; metadata: { carillon: string } }>()
  return { stream: `OBJ_${bucket}`, nuid: info.nuid, seqs: JSON.parse(info.metadata.carillon).seqs }
}

export interface StreamState {
  readonly bytes: number
  readonly messages: number
}

export async function stateOf(nc: NatsConnection, stream: string): Promise<StreamState> {
  const reply = await nc.request(`$JS.API.STREAM.INFO.${stream}`)
  return reply.json<{ state: StreamState }>().state
}
