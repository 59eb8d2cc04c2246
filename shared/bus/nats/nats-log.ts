// Logs on JetStream streams, by plain requests: every call is one request, so the caller alone decides about retries.
import type { Msg } from '@nats-io/transport-node'
import { type CarillonError, ConflictError, RefusedError, UnavailableError } from '../../base/errors.ts'
import { ApiError, apiCode } from '../../nats/nats-api.ts'
import { tooLarge } from '../pipe.ts'
import {
  type BusHeaders,
  type BusMessage,
  type LogConfig,
  type LogMessage,
  type LogState,
  type LogStore,
  statusHeader,
} from '../port.ts'
import { NatsFeed } from './nats-feed.ts'
import { asked, descriptionHeader, lastOnSubjects, statusOf } from './nats-last.ts'
import { type NatsLink, NatsMessage } from './nats-message.ts'

const apiTimeoutMs = 5_000
const nanosPerMs = 1_000_000

interface StreamInfo {
  readonly config: Record<string, unknown> & {
    readonly max_bytes: number
    readonly num_replicas: number
    readonly first_seq?: number
  }
  readonly created: string
  readonly state: { readonly first_seq: number; readonly last_seq: number; readonly bytes: number }
}

export interface NatsLogStore extends LogStore {
  readonly feeds: ReadonlySet<NatsFeed>
}

export function natsLogStore(link: NatsLink, payloadBytesMax: () => number): NatsLogStore {
  const feeds = new Set<NatsFeed>()
  const streamOf = (log: string) => `${link.prefix}-${log}`
  const subjectOf = (subject: string) => `${link.prefix}.${subject}`
  const relative = (subject: string) => subject.slice(link.prefix.length + 1)
  return {
    feeds,
    ensure: (config) => ensureStream(link, streamOf(config.name), config),
    state: async (log) =>
      stateOf(await link.api.call<StreamInfo>(`STREAM.INFO.${streamOf(log)}`, undefined, apiTimeoutMs)),

    async append(log, subject, payload, { timeoutMs, messageId, expectedLastSubjectSeq }) {
      if (payload.length > payloadBytesMax()) throw tooLarge(`message to ${log}`, payload.length, payloadBytesMax())
      const head = {
        ...(messageId !== undefined && { 'Nats-Msg-Id': messageId }),
        ...(expectedLastSubjectSeq !== undefined && {
          'Nats-Expected-Last-Subject-Sequence': String(expectedLastSubjectSeq),
        }),
      }
      const hasHead = messageId !== undefined || expectedLastSubjectSeq !== undefined
      try {
        const stored = await link.api.append(subjectOf(subject), payload, timeoutMs, hasHead ? head : undefined)
        return { seq: stored.seq, isDuplicate: stored.duplicate === true }
      } catch (error) {
        throw appendError(error, subject)
      }
    },

    lastPerSubject: (log, subjects, timeoutMs, asOfSeq) =>
      lastPerSubject(
        link,
        streamOf(log),
        { multi_last: subjects.map(subjectOf), up_to_seq: asOfSeq },
        timeoutMs,
        relative,
      ),

    async get(log, seq, timeoutMs) {
      const path = `$JS.API.DIRECT.GET.${streamOf(log)}`
      const reply = await asked(link.ask(path, Buffer.from(JSON.stringify({ seq })), timeoutMs))
      const status = statusOf(reply.headers)
      if (status === 404) return getFromLeader(link, streamOf(log), seq, timeoutMs, relative)
      if (status !== 0) throw new UnavailableError('log-unavailable', `${path}: ${status}`)
      return directMessage(reply.headers, reply.payload, relative)
    },

    async purge(log, belowSeq, timeoutMs) {
      const body = { seq: belowSeq }
      const reply = await link.api.call<{ purged: number }>(`STREAM.PURGE.${streamOf(log)}`, body, timeoutMs)
      return reply.purged
    },

    consume(log, fromSeq, onMessage, onError) {
      const feed = new NatsFeed(link, {
        stream: streamOf(log),
        from: fromSeq,
        onError,
        onMessage: ({ msg, seq, storedAtMs }) =>
          onMessage({
            seq,
            subject: relative(msg.subject),
            payload: msg.data,
            messageId: msg.headers?.get('Nats-Msg-Id') || undefined,
            storedAtMs,
          }),
      })
      feeds.add(feed)
      return {
        stop() {
          feeds.delete(feed)
          return feed.stop()
        },
      }
    },
  }
}

/** What a refused append means to its caller. */
function appendError(error: unknown, subject: string): unknown {
  if (!(error instanceof ApiError)) return error
  const families: Record<number, CarillonError> = {
    [apiCode.wrongLastSequence]: new ConflictError('log-conflict', `${subject}: ${error.message}`, { cause: error }),
    [apiCode.maxBytes]: new UnavailableError('log-full', `${subject}: ${error.message}`, { cause: error }),
  }
  return families[error.errCode] ?? error
}

/** A message of the server on an inbox: statuses travel in the first header line, and become headers here. */
export function inboxMessage(msg: Msg, prefixLength: number): BusMessage {
  const message = new NatsMessage(msg, prefixLength)
  const code = msg.headers?.code ?? 0
  if (code === 0) return message
  const status = { [statusHeader]: String(code), [descriptionHeader]: msg.headers?.description ?? '' }
  return {
    subject: message.subject,
    replyTo: undefined,
    payload: message.payload,
    headers: { ...message.headers, ...status },
  }
}

function directMessage(head: BusHeaders, payload: Uint8Array, relative: (subject: string) => string): LogMessage {
  return {
    seq: Number(head['Nats-Sequence']),
    subject: relative(head['Nats-Subject'] ?? ''),
    payload,
    messageId: head['Nats-Msg-Id'],
    storedAtMs: Date.parse(head['Nats-Time-Stamp'] ?? ''),
  }
}

interface StoredMessage {
  readonly message: { readonly subject: string; readonly time: string; readonly data?: string; readonly hdrs?: string }
}

/** Any replica answers a direct read, also one that is behind: only the leader's word counts for what is not there. */
async function getFromLeader(
  link: NatsLink,
  stream: string,
  seq: number,
  timeoutMs: number,
  relative: (subject: string) => string,
): Promise<LogMessage | undefined> {
  try {
    const { message } = await link.api.call<StoredMessage>(`STREAM.MSG.GET.${stream}`, { seq }, timeoutMs)
    const head = Buffer.from(message.hdrs ?? '', 'base64').toString()
    return {
      seq,
      subject: relative(message.subject),
      payload: Buffer.from(message.data ?? '', 'base64'),
      messageId: /^Nats-Msg-Id: *(.*?)\r?$/im.exec(head)?.[1],
      storedAtMs: Date.parse(message.time),
    }
  } catch (error) {
    if (error instanceof ApiError && error.errCode === apiCode.messageNotFound) return undefined
    throw error
  }
}

async function lastPerSubject(
  link: NatsLink,
  stream: string,
  wanted: { readonly multi_last: readonly string[]; readonly up_to_seq: number | undefined },
  timeoutMs: number,
  relative: (subject: string) => string,
): Promise<{ messages: LogMessage[]; upToSeq: number }> {
  const { found, upToSeq } = await lastOnSubjects(link, stream, wanted, timeoutMs)
  return { messages: found.map(({ headers, payload }) => directMessage(headers, payload, relative)), upToSeq }
}

function stateOf({ state, config, created }: StreamInfo): LogState {
  return {
    firstSeq: state.last_seq === 0 ? 0 : state.first_seq,
    lastSeq: state.last_seq,
    bytes: state.bytes,
    bytesMax: config.max_bytes,
    replicas: config.num_replicas,
    incarnation: created,
    originSeq: config.first_seq || 1,
  }
}

async function ensureStream(link: NatsLink, stream: string, config: LogConfig): Promise<LogState> {
  const wanted: Record<string, unknown> = {
    name: stream,
    subjects: config.subjects.map((subject) => `${link.prefix}.${subject}`),
    storage: 'file',
    retention: 'limits',
    discard: 'new',
    max_bytes: config.bytesMax,
    max_msgs: -1,
    max_msgs_per_subject: -1,
    max_msg_size: -1,
    max_age: 0,
    num_replicas: config.replicas,
    duplicate_window: config.duplicateWindowMs * nanosPerMs,
    allow_direct: true,
    deny_delete: true,
  }
  const { originSeq = 1 } = config
  const info = await infoOrCreate(link, stream, originSeq > 1 ? { ...wanted, first_seq: originSeq } : wanted)
  const wrong = Object.keys(wanted).filter((key) => !isEqual(info.config[key], wanted[key]))
  if (wrong.length === 0) return stateOf(info)
  const isGrown = (key: string) => mayGrow.has(key) && Number(wanted[key]) > Number(info.config[key])
  if (wrong.every(isGrown))
    return stateOf(
      await link.api.call<StreamInfo>(`STREAM.UPDATE.${stream}`, { ...info.config, ...wanted }, apiTimeoutMs),
    )
  const said = wrong.map((key) => `${key} is ${JSON.stringify(info.config[key])}, not ${JSON.stringify(wanted[key])}`)
  const text = `stream ${stream} is not as asked for: ${said.join('; ')}`
  throw new RefusedError('log-config', `${text} (bytes and copies may grow, nothing else changes)`)
}

async function infoOrCreate(link: NatsLink, stream: string, wanted: Record<string, unknown>): Promise<StreamInfo> {
  try {
    return await link.api.call<StreamInfo>(`STREAM.INFO.${stream}`, undefined, apiTimeoutMs)
  } catch (error) {
    if (!(error instanceof ApiError) || error.errCode !== apiCode.streamNotFound) throw error
  }
  try {
    return await link.api.call<StreamInfo>(`STREAM.CREATE.${stream}`, wanted, apiTimeoutMs)
  } catch (error) {
    if (!(error instanceof ApiError) || error.errCode !== apiCode.streamNameInUse) throw error
    return link.api.call<StreamInfo>(`STREAM.INFO.${stream}`, undefined, apiTimeoutMs) // somebody was faster
  }
}

const mayGrow: ReadonlySet<string> = new Set(['max_bytes', 'num_replicas'])

function isEqual(held: unknown, wanted: unknown): boolean {
  if (!Array.isArray(wanted)) return (held ?? 0) === wanted
  return Array.isArray(held) && JSON.stringify([...held].sort()) === JSON.stringify([...wanted].sort())
}
