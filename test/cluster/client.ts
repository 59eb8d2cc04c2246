// What a sender and a reader of the gateway do, over HTTP as they do it.
import { setTimeout as sleep } from 'node:timers/promises'
import {
  encodeWriteV1,
  encodeWriteV2,
  type PlainSeries,
  type PlainWrite,
} from '../../shared/wire/remote-write-encode.ts'
import { compress } from '../../shared/wire/snappy.ts'

const UNREADY_MS_MAX = 20_000

export interface Pushed {
  readonly status: number
  readonly headers: Headers
  readonly text: string
  /** `X-Carillon-Log-Position`, '' when there is none. */
  readonly position: string
}

export interface SenderOptions {
  readonly tenant?: string
  readonly protocol?: 1 | 2
  /** Gives up after that long. */
  readonly timeoutMs?: number
  /** `/api/v1/push` unless told. */
  readonly path?: string
  readonly headers?: Readonly<Record<string, string>>
}

const typeOf = {
  1: 'application/x-protobuf;proto=prometheus.WriteRequest',
  2: 'application/x-protobuf;proto=io.prometheus.write.v2.Request',
}

function patienceOf({ timeoutMs }: { readonly timeoutMs?: number }): { signal?: AbortSignal } {
  return timeoutMs === undefined ? {} : { signal: AbortSignal.timeout(timeoutMs) }
}

/** A body as it travels, compressed. */
export async function pushBody(url: string, body: Uint8Array, options: SenderOptions = {}): Promise<Pushed> {
  const response = await fetch(`${url}${options.path ?? '/api/v1/push'}`, {
    method: 'POST',
    body: Buffer.from(body),
    ...patienceOf(options),
    headers: {
      'Content-Type': typeOf[options.protocol ?? 1],
      'Content-Encoding': 'snappy',
      ...(options.tenant !== undefined && { 'X-Scope-OrgID': options.tenant }),
      ...options.headers,
    },
  })
  const { status, headers } = response
  return { status, headers, text: await response.text(), position: headers.get('X-Carillon-Log-Position') ?? '' }
}

export function pushWrite(url: string, write: PlainWrite, options: SenderOptions = {}): Promise<Pushed> {
  const encode = options.protocol === 2 ? encodeWriteV2 : encodeWriteV1
  return pushBody(url, compress(encode(write)), options)
}

/** One sample of one series, now unless told. */
export function sample(name: string, value: number, labels: readonly string[] = [], time = Date.now()): PlainSeries {
  return { labels: ['__name__', name, ...labels], samples: [{ time, value }] }
}

/** As senders do: sends again what was answered 503. */
export async function pushUntilTaken(url: string, write: PlainWrite, options: SenderOptions = {}): Promise<Pushed> {
  const endMs = Date.now() + UNREADY_MS_MAX
  for (;;) {
    const pushed = await pushWrite(url, write, options)
    if (pushed.status !== 503 || Date.now() > endMs) return pushed
    await sleep(100)
  }
}

export interface Answered {
  readonly status: number
  readonly headers: Headers
  // biome-ignore lint/suspicious/noExplicitAny: the shape differs by question, and tests compare it whole
  readonly body: any
}

export interface ReaderOptions {
  readonly tenant?: string
  /** `strong`, or a position. */
  readonly consistency?: string
  readonly method?: 'GET' | 'POST'
  /** Gives up after that long. */
  readonly timeoutMs?: number
}

export type Parameters = Readonly<Record<string, string | readonly string[]>>

/** One question to an API of Prometheus' shape; `path` like `/api/v1/query`. */
export async function ask(
  url: string,
  path: string,
  parameters: Parameters,
  options: ReaderOptions = {},
): Promise<Answered> {
  const form = new URLSearchParams()
  for (const [name, value] of Object.entries(parameters)) for (const one of [value].flat()) form.append(name, one)
  const headers: Record<string, string> = {}
  if (options.tenant !== undefined) headers['X-Scope-OrgID'] = options.tenant
  if (options.consistency !== undefined) headers['X-Read-Consistency'] = options.consistency
  const patience = patienceOf(options)
  const response =
    options.method === 'POST'
      ? await fetch(`${url}${path}`, { method: 'POST', body: form, headers, ...patience })
      : await fetch(`${url}${path}?${form}`, { headers, ...patience })
  return { status: response.status, headers: response.headers, body: await response.json() }
}

/** The values of an instant query, as the texts of its JSON. */
export async function valuesOf(url: string, query: string, options: ReaderOptions = {}): Promise<string[]> {
  const { status, body } = await ask(url, '/api/v1/query', { query }, { consistency: 'strong', ...options })
  if (status !== 200) throw new Error(`${query}: ${status} ${JSON.stringify(body)}`)
  return body.data.result.map((each: { value: [number, string] }) => each.value[1])
}
