// The table of roles: all there is to say of an actor, so that one is added in one place. What else must know them (commands, the launcher
// and its settings, a gateway's readiness, the generated documents, the check of compose.yaml) takes it from here.
//
// The table stands in the order of a request: who asks stands above whom it asks. Actors stop in this order and start in the reverse.
// Everything of an actor is loaded only where that actor is meant: starting one loads none of the others.
import { integer, type Setting, type SettingsTable } from '../shared/config/settings.ts'
import type { Role } from '../shared/contracts/member.ts'
import type { ServiceDeps } from '../shared/membership/deps.ts'
import type { Duty, Need } from './gateway/pages/readiness.ts'
import type { ServiceActor } from './launcher/actor-process.ts'
import type { ProcessNeeds } from './launcher/start.ts'

export interface RoleEntry {
  /** What it does, in one line of the help. */
  readonly does: string
  /** The setting that says how many `start` and `cluster` run. */
  readonly plural: string
  readonly count: { readonly start: number; readonly cluster: number }
  /** What a gateway cannot do without it; absent: a system is ready that has none. */
  readonly duty?: Duty
  /** It takes connections at its setting `listen`. */
  readonly listens?: true
  readonly settings: () => Promise<SettingsTable>
  readonly make: () => Promise<(deps: ServiceDeps & { config: never }) => ServiceActor>
  /** Rejects with RefusedError for what only the actor itself would notice of its settings. Looks at files, opens nothing. */
  readonly check?: () => Promise<(config: never) => unknown>
  /** How its process must be run, where that is not as usual. */
  readonly process?: () => Promise<(config: never) => ProcessNeeds>
}

const table = {
  gateway: {
    does: 'the HTTP door: remote_write in, the Prometheus API out',
    plural: 'gateways',
    count: { start: 1, cluster: 2 },
    listens: true,
    settings: async () => (await import('./gateway/config.ts')).gatewaySettings,
    check: async () => (await import('./gateway/start-check.ts')).checkGateway,
    make: async () => {
      const { gateway } = await import('./gateway/gateway.ts')
      return (deps) => gateway({ ...deps, needs })
    },
  },
  distributor: {
    does: 'checks what is written and puts it into the partition logs',
    plural: 'distributors',
    count: { start: 1, cluster: 2 },
    duty: 'writes',
    settings: async () => (await import('./distributor/config.ts')).distributorSettings,
    check: async () => (await import('./distributor/ha/ha-labels.ts')).haLabelsOf,
    make: async () => (await import('./distributor/distributor.ts')).distributor,
  },
  querier: {
    does: 'answers PromQL from the owners of partitions and from blocks',
    plural: 'queriers',
    count: { start: 1, cluster: 2 },
    duty: 'reads',
    settings: async () => (await import('./querier/config.ts')).querierSettings,
    make: async () => {
      const [{ querier }, { processMemory }] = await Promise.all([
        import('./querier/querier.ts'),
        import('./querier/limits/process-memory.ts'),
      ])
      return (deps) => querier({ ...deps, processMemory: processMemory() })
    },
    process: async () => (await import('./querier/config.ts')).querierProcess,
  },
  compactor: {
    does: 'merges blocks, removes what is deleted or too old',
    plural: 'compactors',
    count: { start: 1, cluster: 2 },
    settings: async () => (await import('./compactor/config.ts')).compactorSettings,
    check: async () => (await import('./compactor/start-check.ts')).checkCompactor,
    make: async () => (await import('./compactor/compactor.ts')).compactor,
  },
  ingester: {
    does: 'applies partition logs and answers from memory',
    plural: 'ingesters',
    count: { start: 1, cluster: 3 },
    duty: 'partitions',
    settings: async () => (await import('./ingester/config.ts')).ingesterSettings,
    make: async () => (await import('./ingester/ingester.ts')).ingester,
  },
} satisfies Record<Role, RoleEntry>

export const roles: Readonly<Record<Role, RoleEntry>> = table
export const roleNames = Object.keys(roles) as readonly Role[]

/** What a gateway asks before it says that it is ready. */
export const needs: readonly Need[] = roleNames.flatMap((role) => {
  const { duty } = roles[role]
  return duty === undefined ? [] : [{ role, duty }]
})

type Plural = (typeof table)[Role]['plural']

const ACTORS_MAX = 64

function counts(shape: 'start' | 'cluster'): Readonly<Record<Plural, Setting<number>>> {
  const settings = Object.values(roles).map(({ plural, count, listens }): [string, Setting<number>] => {
    const more = listens ? '; each further one listens on the next port' : ''
    return [plural, integer(count[shape], `${plural} to run${more}`, { min: 0, max: ACTORS_MAX })]
  })
  return Object.fromEntries(settings) as Record<Plural, Setting<number>>
}

/** How many actors `start` and `cluster` run. */
export const countSettings = { start: counts('start'), cluster: counts('cluster') }
