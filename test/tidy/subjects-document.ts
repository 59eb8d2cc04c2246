// docs/subjects.md: every subject that actors speak on and every record of the buckets, from the contracts themselves.
import path from 'node:path'
import { cancelSubject } from '../../shared/bus/ask.ts'
import type { RecordKey } from '../../shared/bus/record.ts'
import * as log from '../../shared/contracts/log.ts'
import { filesIn, root } from './sources.ts'

/** A contract, by what it looks like: a kind and a subject template. */
interface ContractLike {
  readonly kind: string
  readonly subject: string
  readonly name: string
  readonly servedBy: string
  readonly askedBy: readonly string[]
  readonly doc: string
  readonly queue?: string
  readonly timeoutMs?: number
  readonly requestBytesMax?: number
  readonly replyBytesMax?: number
  readonly frameBytesMax?: number
  readonly bytesMax?: number
}

export async function subjectsDocument(): Promise<string> {
  const rows: string[] = []
  const records: string[] = []
  for (const file of filesIn('shared/contracts').filter((name) => name.endsWith('.ts'))) {
    const exported = (await import(path.join(root, file))) as Record<string, unknown>
    for (const value of Object.values(exported)) {
      if (isRecord(value)) records.push(recordRow(value, file))
      else if (isContract(value))
        rows.push(
          row([
            subject(value.subject),
            value.name,
            value.servedBy,
            value.askedBy.join(', '),
            ...kindOf(value),
            `${value.doc} (${file})`,
          ]),
        )
    }
  }
  return `# Subjects

Every subject that actors speak on. \`cln\` is the prefix unless \`--prefix\` says otherwise; it stands before stream and bucket names,
too. Kinds: a **question** is answered by any member of the queue group, an **addressed** question by the one instance that the subject
names, a **topic** is news that may be missed. \`frames\` are a streamed answer, flow-controlled by the asker; a request or reply larger
than one message travels in parts (shared/bus/README.md). **Served by** an actor of that role, or by every *member* of the ring; of a topic, who
listens. **Asked by** actors of those roles, by any *member*, by *commands* of an operator, or from *outside*: whoever is let to the NATS servers
([queries over NATS](queries-over-nats.md)). \`{tenant}\` is the tenant's id with every byte outside \`[A-Za-z0-9-]\` as
\`_XX\`. Messages larger than their bound are refused. Times are how long an asker waits unless it says otherwise.

| subject | contract | served by | asked by | kind | queue | request at most | reply at most | waits | what it is for |
|---|---|---|---|---|---|---|---|---|---|
${rows.sort().join('\n')}

Beside them:

| subject | what travels on it |
|---|---|
| \`cln.${log.batchSubject(0).replace('0', '{partition}')}\` | a log batch (docs/formats/log-batch.md), kept in stream \`cln-${log.logName(0).replace('0', '{partition}')}\`; at most ${size(log.BATCH_BYTES_MAX)} |
| \`cln.${log.markSubject(0).replace('0', '{partition}')}\` | a mark, kept in the same stream |
| \`cln.${log.fenceSubject(0).replace('0', '{partition}')}\` | a fence of a strong read, which says nothing: its sequence is the end of the log |
| \`cln.${cancelSubject}\` | an asker calls a question off, by the word it put into \`Carillon-Cancel\` |
| \`cln.inbox.>\` | replies, and the two ends of streamed messages |

## Buckets

Every record of the KV buckets. Anything may stand in a bucket, so nothing there makes an actor throw, wait or stop: what cannot be read is
passed over, named once in the log with its key and revision, and counted in \`carillon_records_passed_over_total{record,reason}\`. What then
holds is said here; likewise of what a newer version of Carillon has written, which is never written over. An entry under a key that is none of
these is passed over as well.

| bucket | key | record | version | what stands there | where it cannot be read | where a newer version wrote it |
|---|---|---|---|---|---|---|
${records.sort().join('\n')}`
}

function recordRow({ name, bucket, key, version, doc, unreadable, newer }: RecordKey<string>, file: string): string {
  return row([`\`cln-${bucket}\``, `\`${key}\``, name, String(version), `${doc} (${file})`, unreadable, newer])
}

function kindOf(contract: ContractLike): string[] {
  const { kind, queue = '', requestBytesMax, replyBytesMax, frameBytesMax, bytesMax, timeoutMs } = contract
  const reply = frameBytesMax === undefined ? size(replyBytesMax) : `frames of ${size(frameBytesMax)}`
  return [kind, queue, size(requestBytesMax ?? bytesMax), reply, timeoutMs === undefined ? '' : `${timeoutMs / 1000} s`]
}

function size(bytes: number | undefined): string {
  if (bytes === undefined) return ''
  return bytes >= 1024 * 1024 ? `${bytes / 1024 / 1024} MiB` : `${bytes / 1024} KiB`
}

const subject = (template: string): string => `\`cln.${template}\``
const row = (cells: readonly string[]): string => `| ${cells.map((cell) => cell.replaceAll('|', '\\|')).join(' | ')} |`

export function isContract(value: unknown): value is ContractLike {
  if (typeof value !== 'object' || value === null) return false
  return ['kind', 'subject', 'name', 'doc'].every((key) => typeof Reflect.get(value, key) === 'string')
}

function isRecord(value: unknown): value is RecordKey<string> {
  return typeof value === 'object' && value !== null && Reflect.get(value, 'kind') === 'record'
}
