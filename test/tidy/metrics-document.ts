// docs/metrics.md: every metric, as the actors themselves register it when they are made (none of them is started).
import { actorMetrics } from '../../services/launcher/actor-metrics.ts'
import { roleNames, roles } from '../../services/roles.ts'
import { systemClock } from '../../shared/base/clock.ts'
import { seededRandom } from '../../shared/base/random.ts'
import { createMemoryHub } from '../../shared/bus/memory/memory-bus.ts'
import { defaultsOf } from '../../shared/config/settings.ts'
import { passedOver } from '../../shared/kv/passed-over.ts'
import type { ServiceDeps } from '../../shared/membership/deps.ts'
import type { Membership } from '../../shared/membership/membership.ts'
import { memoryObjects } from '../../shared/objects/memory-objects.ts'
import { readCacheMetrics } from '../../shared/objects/read-cache-metrics.ts'
import { silentLog } from '../../shared/telemetry/log.ts'
import { createMetrics, type MetricDescription, type Metrics } from '../../shared/telemetry/metrics.ts'

const ofSeveral: Readonly<Record<string, (deps: ServiceDeps) => unknown>> = {
  'every actor': ({ metrics }) => [actorMetrics(metrics), passedOver({ metrics })],
  'every actor that reads blocks': ({ metrics }) => readCacheMetrics(metrics),
}

/** Rendered by the gateway's `/metrics` itself, for members that do not answer as well. */
const memberUp: MetricDescription = {
  name: 'carillon_member_up',
  kind: 'gauge',
  help: "On the gateway's `/metrics` only: 1 for members that answered this scrape in time, 0 for those that did not.",
  labelNames: ['role', 'id'],
}

export async function metricsDocument(): Promise<string> {
  const makers = roleNames.map(async (name): Promise<[string, (deps: ServiceDeps) => unknown]> => {
    const [make, settings] = await Promise.all([roles[name].make(), roles[name].settings()])
    return [name, (deps) => make({ ...deps, config: defaultsOf(settings) as never })]
  })
  const sections = [...Object.entries(ofSeveral), ...(await Promise.all(makers))].map(([role, make]) => {
    const own = describe(make)
    const rows = (role === 'gateway' ? [...own, memberUp] : own).map(row).sort()
    return `## ${role}\n\n| metric | kind | labels | what it says |\n|---|---|---|---|\n${rows.join('\n')}`
  })
  return `# Metrics

The gateway's \`/metrics\` asks every member over the bus and shows all of them on one page; each sample there carries the labels
\`role\` and \`id\` of its member beside those below. Names and labels are a contract: they are not changed without a line in the
changelog. Every process also shows the figures of its runtime: \`process_*\` (CPU seconds, memory, open files) and \`nodejs_*\` (event
loop lag, garbage collection, heap).

${sections.join('\n\n')}`
}

function describe(make: (deps: ServiceDeps) => unknown): readonly MetricDescription[] {
  const metrics = createMetrics()
  make(depsWith(metrics))
  return metrics.describe()
}

function depsWith(metrics: Metrics): ServiceDeps {
  const random = seededRandom(1)
  const bus = createMemoryHub({ clock: systemClock, random, durability: 'unknown' }).connect('document')
  return {
    bus,
    objects: memoryObjects(),
    clock: systemClock,
    random,
    log: silentLog,
    metrics,
    id: 'document',
    incarnation: '',
    membership: nobody,
  }
}

const nobody: Membership = {
  id: 'document',
  incarnation: '',
  members: () => [],
  live: () => [],
  partitionCount: () => 0,
  replicationFactor: () => 1,
  readableCount: () => 0,
  writableCount: () => 0,
  owners: () => [],
  holders: () => [],
  readers: () => [],
  confirm: async () => {},
  isConfirmed: () => false,
  ring: () => {
    throw new Error('nobody has no ring')
  },
  onChange: () => ({ stop: () => {} }),
  setState: async () => {},
  setHolds: () => {},
  setDamage: () => {},
  leave: async () => {},
}

function row({ name, kind, labelNames, help }: MetricDescription): string {
  const labels = labelNames.map((label) => `\`${label}\``).join(', ')
  return `| \`${name}\` | ${kind} | ${labels} | ${help.replaceAll('|', '\\|')} |`
}
