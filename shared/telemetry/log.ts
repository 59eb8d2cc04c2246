// Log lines on stderr, with the role and id of the actor that speaks: JSON, one object a line, for programs; for people, at a terminal, in
// words (log-text.ts).
import { type DestinationStream, pino } from 'pino'
import { lineForPeople } from './log-text.ts'

export type LogLevel = 'debug' | 'info' | 'warn' | 'error'
/** `auto`: text at a terminal, else JSON. */
export type LogFormat = 'auto' | 'text' | 'json'

/** Facts first, then a sentence: `log.warn({ partition }, 'the log has a gap')`. */
export interface Log {
  debug(facts: object, text: string): void
  info(facts: object, text: string): void
  warn(facts: object, text: string): void
  error(facts: object, text: string): void
  child(facts: Readonly<Record<string, unknown>>): Log
}

export interface LogOptions {
  readonly role: string
  readonly id: string
  readonly level: LogLevel
  /** `json` unless told otherwise. */
  readonly format?: LogFormat
  /** stderr unless told otherwise. */
  readonly destination?: DestinationStream
  /** Nobody reads stderr any more: lines are lost from now on. */
  readonly onLost?: () => void
}

export function createLog({ role, id, level, format = 'json', destination, onLost }: LogOptions): Log {
  const isText = format === 'text' || (format === 'auto' && process.stderr.isTTY)
  const stream = destination ?? stderr(onLost)
  const logger = pino(
    {
      level,
      base: { role, id },
      timestamp: pino.stdTimeFunctions.isoTime,
      messageKey: 'text',
      errorKey: 'error',
      formatters: { level: (label) => ({ level: label }) },
      serializers: { error: pino.stdSerializers.err },
    },
    isText ? { write: (line) => stream.write(lineForPeople(line)) } : stream,
  )
  return logger
}

function stderr(onLost: () => void = () => {}): DestinationStream {
  const stream = pino.destination({ fd: 2, sync: true })
  stream.on('error', (error: NodeJS.ErrnoException) => {
    if (error.code !== 'EPIPE') throw error
    onLost() // pino writes no more
  })
  return stream
}

/** For tests and simulation runs that want no lines. */
export const silentLog: Log = {
  debug: () => {},
  info: () => {},
  warn: () => {},
  error: () => {},
  child: () => silentLog,
}
