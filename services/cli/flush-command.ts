// `carillon mark` and `carillon flush`: the next segments are opened now, and the ones before brought into blocks.
import { ask } from '../../shared/bus/ask.ts'
import { defineSettings, duration } from '../../shared/config/settings.ts'
import type { FlushKind, FlushRequest } from '../../shared/contracts/flush.ts'
import { ring } from '../../shared/contracts/member.ts'
import { type FlushOutcome, flushMembers } from '../../shared/membership/flush-members.ts'
import type { Command } from './command.ts'
import { type System, systemCommand } from './system.ts'

const flushSettings = defineSettings({
  waitMs: duration('6m', 'how long `mark` and `flush` wait until it is done: longer than --segment-min', {
    min: '0ms',
    max: '15m',
  }),
})

export const markCommand = segmentCommand(
  'mark',
  'opens the next segments of a running system',
  'Opens the next segment',
)
export const flushCommand = segmentCommand(
  'flush',
  'opens the next segments, and brings the ones before into blocks',
  'Brings what was written so far into blocks',
)

function segmentCommand(kind: FlushKind, does: string, what: string): Command {
  return systemCommand({
    name: kind,
    usage: '[flags]',
    does,
    intro: `${what} in every partition, as soon as the ingesters' segment-min allows.`,
    settings: flushSettings,
    async run({ config: { waitMs }, system }) {
      const outcome = await askFlush(system, { kind, waitMs })
      return { text: flushText(outcome), exitCode: outcome.isDone ? 0 : 1 }
    },
  })
}

/** Opens the next segments now; with `flush` brings the ones before into blocks, too. */
function askFlush(system: System, asked: FlushRequest): Promise<FlushOutcome> {
  const { kind, waitMs } = asked
  return system.ask({
    http: (client) =>
      client.data<FlushOutcome>(`/api/v1/admin/${kind}?wait=${waitMs}ms`, { method: 'POST', waitMs, isOnce: true }),
    async nats(bus) {
      const { members } = await ask(bus, ring, {}, {}, {})
      const ids = members.filter(({ role, isHealthy }) => role === 'ingester' && isHealthy).map(({ id }) => id)
      return flushMembers(bus, ids, asked)
    },
  })
}

function flushText({ partitions, failures, isDone }: FlushOutcome): string {
  const lines = partitions.map(
    ({ partition, leader, segment, flushed, isDone }) =>
      `partition ${partition}  ${leader}  segment ${segment}  flushed ${flushed}  ${isDone ? 'done' : 'not yet'}`,
  )
  const rest = isDone
    ? []
    : ['it goes on by itself: segments are at least --segment-min long; ask again, or with a longer --wait']
  return `${[...lines, ...failures.map((failure) => `no answer from ${failure}`), ...rest].join('\n')}\n`
}
