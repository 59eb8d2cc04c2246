// docs/errors.md: every error code, as the table of shared/base/error-codes.ts says it, in lines of at most 100 columns.
import { type ErrorKind, errorCodes, publicCode } from '../../shared/base/error-codes.ts'

const COLUMNS = 100

type Row = ReturnType<typeof errorCodes>[number]

const CLASSES: Readonly<Record<ErrorKind, string>> = {
  refused: 'Refused',
  unavailable: 'Unavailable',
  conflict: 'Conflict',
  corrupt: 'Corrupt',
}

const INTRODUCTION = [
  'Every error has an id that does not change between versions. It stands at the end of the text of the error, in the ' +
    'header `X-Carillon-Error-Id` of an HTTP answer, and in the log of the process that met the error. Texts may change, ' +
    'ids may not.',
  'Some errors begin deep inside, for example in the connection to NATS. Logs name them by a short code such as ' +
    '`bus-timeout`; over HTTP the same code is `err-carillon-bus-timeout`. Both forms are given here.',
  'The class of an error says what happens next:',
]

const OF_CLASSES = [
  '**Refused**: the request is at fault. The answer has a status of 4xx, and the same request fails again. A few have ' +
    '503: the querier gave the query up.',
  '**Unavailable**: Carillon is at fault, and it may pass. The answer is 503 with `Retry-After`; Prometheus sends again ' +
    'by itself.',
  '**Conflict**: another process was first. It stays inside, where the work is begun again; if it reaches HTTP, the ' +
    'answer is 500 `err-carillon-internal`.',
  '**Corrupt**: stored data does not match its checksum or its rules. It is set aside, counted and named; over HTTP the ' +
    'answer is 500.',
]

export async function errorsDocument(): Promise<string> {
  const byId = Map.groupBy(errorCodes(), ({ code }) => publicCode(code))
  const sections = [...byId].sort(([a], [b]) => (a < b ? -1 : 1)).map(([id, rows]) => section(id, rows))
  const classes = OF_CLASSES.map((text) => wrapped(text, '- ', '  ')).join('\n')
  return `# Errors\n\n${INTRODUCTION.map((text) => wrapped(text)).join('\n\n')}\n\n${classes}\n\n${sections.join('\n\n')}`
}

function section(id: string, rows: readonly Row[]): string {
  return `## ${id}\n\n${rows.map((each) => wrapped(`${headOf(each)} ${each.row.meaning} ${each.row.remedy}`)).join('\n\n')}`
}

function headOf({ code, kind, row }: Row): string {
  const short = code.startsWith('err-') ? '' : `, \`${code}\` in logs`
  return `**${CLASSES[kind]}, ${outcomeOf(kind, row)}${short}.**`
}

function outcomeOf(kind: ErrorKind, row: Row['row']): string {
  if ('statuses' in row) return row.atStart === true ? 'at start' : `HTTP ${row.statuses.join(' or ')}`
  return { refused: '', unavailable: 'HTTP 503', conflict: 'inside', corrupt: 'HTTP 500' }[kind]
}

function wrapped(text: string, first = '', others = ''): string {
  const lines = [first]
  for (const word of text.split(' ')) {
    const line = lines.at(-1)!
    const isBare = line === first || line === others
    if (isBare) lines[lines.length - 1] = line + word
    else if (line.length + 1 + word.length <= COLUMNS) lines[lines.length - 1] = `${line} ${word}`
    else lines.push(others + word)
  }
  return lines.join('\n')
}
