// A log line for people: `15:04:05.123Z  gateway-1  the sentence  fact=value`. What is worse than a notice says so; the stack of an
// error stands below, but for those that are no bug.

type Facts = Readonly<Record<string, unknown>>

const ID_WIDTH = 13
/** Told elsewhere on the line. */
const ELSEWHERE: ReadonlySet<string> = new Set(['level', 'time', 'role', 'id', 'text', 'error', 'err'])
const LEVELS: Readonly<Record<string, string>> = { warn: 'WARN ', error: 'ERROR ', debug: 'debug ' }

/** `json` as pino writes it, its end of line included. */
export function lineForPeople(json: string): string {
  const facts = JSON.parse(json) as Facts
  const { time, id, level, text } = facts
  const error = (facts['error'] ?? facts['err']) as Facts | string | undefined
  const rest = Object.entries(facts).flatMap(([name, value]) =>
    ELSEWHERE.has(name) || value === undefined || value === '' ? [] : [`${name}=${shown(value)}`],
  )
  const head = `${String(time).slice(11, 24)}  ${String(id).padEnd(ID_WIDTH)}  ${LEVELS[String(level)] ?? ''}${text}`
  return `${[head + (error === undefined ? '' : `: ${messageOf(error)}`), ...rest].join('  ')}\n${stackOf(error)}`
}

function messageOf(error: Facts | string): string {
  if (typeof error === 'string') return error
  const { message, code } = error
  return typeof code === 'string' && !String(message).includes(code) ? `${message} (${code})` : String(message)
}

/** Errors with a code of ours explain themselves. */
function stackOf(error: Facts | string | undefined): string {
  if (typeof error !== 'object' || typeof error['stack'] !== 'string') return ''
  if (typeof error['code'] === 'string') return ''
  return `${error['stack'].split('\n').slice(1).join('\n')}\n`
}

function shown(value: unknown): string {
  const text = typeof value === 'string' ? value : JSON.stringify(value)
  return typeof value === 'string' && /[\s"=]/.test(text) ? JSON.stringify(text) : text
}
