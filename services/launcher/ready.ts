// What `start` says when everything runs: lines for people, or one JSON line for programs.
import type { Durability } from '../../shared/bus/port.ts'

export interface ReadyProcess {
  readonly pid: number
  readonly role: string
  readonly id: string
  /** Where it listens, if it does. */
  readonly address?: string
}

export interface ReadyFacts {
  /** False where roles run elsewhere, so that nobody here knows whether writes and reads work. */
  readonly isWhole: boolean
  /** URL of the first gateway, '' when there is none. */
  readonly base: string
  readonly nats: string
  /** Holds `user:password` for it; '' where none is needed. */
  readonly natsUserFile: string
  readonly durability: Durability
  readonly durabilityReason: string
  readonly data: string
  readonly processes: readonly ReadyProcess[]
}

export function readyLine({ base, isWhole: _, ...facts }: ReadyFacts): string {
  const doors = base === '' ? {} : { push: pushUrl(base), query: base }
  return `${JSON.stringify({ ready: true, ...doors, ...facts, launcher: process.pid })}\n`
}

export function readyText(facts: ReadyFacts): string {
  const { base, nats, natsUserFile, data, durability, durabilityReason, isWhole } = facts
  const kept = {
    'power-loss-safe': 'an acknowledged sample survives a power cut',
    'process-crash-safe': 'an acknowledged sample survives killed processes, not a power cut',
    'best-effort': 'an acknowledged sample may be lost',
    unknown: 'the nats-server does not say how safe an acknowledged sample is',
  } satisfies Record<Durability, string>
  const doors =
    base === ''
      ? ['  no gateway runs here']
      : [`  push to      ${pushUrl(base)}`, `  query        ${base}  (a Prometheus data source)`]
  return `${[
    isWhole ? 'carillon is ready' : 'carillon runs; roles that run elsewhere are waited for (/-/ready)',
    ...doors,
    `  NATS         ${nats}${natsUserFile === '' ? '' : `  (user and password: ${natsUserFile})`}`,
    `  data         ${data}`,
    `  durability   ${durability}: ${kept[durability]} (${durabilityReason})`,
  ].join('\n')}\n`
}

function pushUrl(base: string): string {
  return `${base}/api/v1/push`
}
